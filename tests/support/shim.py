"""A way into the cluster's shim from outside, made anew when the shim or the forwarding dies."""

import threading
import urllib.request
from contextlib import ExitStack

from support.kubectl import Kubectl
from support.polling import wait_for


class ShimDoor:
    """Port-forward to a pod of the shim. `url` returns a base URL that answers now."""

    def __init__(self, system: Kubectl) -> None:
        self._system = system
        self._stack = ExitStack()
        self._url = ""
        self._lock = threading.Lock()

    def url(self) -> str:
        """Return the base URL; opens the door first, or again, where it is shut."""
        with self._lock:
            if not self._url or not self._answers():
                wait_for(self._open, within=60)
            return self._url

    def close(self) -> None:
        """End the port-forward."""
        self._stack.close()

    def _open(self) -> bool:
        self._stack.close()
        port = self._stack.enter_context(self._system.port_forward("svc/appfn-shim", 80))
        self._url = f"http://127.0.0.1:{port}"
        return self._answers()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/healthz", timeout=5) as response:  # noqa: S310 - our own port
                return bool(response.status == 200)
        except OSError:
            return False

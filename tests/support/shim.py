"""A way into the cluster's shim from outside, made anew when the shim or the forwarding dies."""

import threading
import urllib.error
import urllib.request
from contextlib import ExitStack

from support.kubectl import Kubectl
from support.polling import wait_for


class ShimDoor:
    """Port-forward to a pod of the shim. `url` returns a base URL that leads to one that is there."""

    def __init__(self, system: Kubectl, *, patience: float = 5.0) -> None:
        self._system = system
        self._patience = patience
        """Seconds a shim may take to say that it is there."""
        self._stack = ExitStack()
        self._url = ""
        self._lock = threading.Lock()

    def url(self) -> str:
        """Return the base URL; opens the door first, or again, where it is shut."""
        with self._lock:
            if not self._url or self._is_shut():
                wait_for(self._open, within=60)
            return self._url

    def close(self) -> None:
        """End the port-forward."""
        self._stack.close()

    def _open(self) -> bool:
        self._stack.close()
        port = self._stack.enter_context(self._system.port_forward("svc/appfn-shim", 80))
        self._url = f"http://127.0.0.1:{port}"
        return not self._is_shut()

    def _is_shut(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/healthz", timeout=self._patience):  # noqa: S310 - our own port
                return False
        except urllib.error.HTTPError:
            return False
        except TimeoutError:
            return False  # slow, and other threads may wait for answers that come through this very door
        except OSError:
            return True

"""Telling the shim that this pod is there: its address, long before the API server knows it.

The shim knows the pod by its ServiceAccount token, which only the agent's container holds; where the agent has none of
its own, by the token of the Deployment that the pod was made for, and the pod says which it is. The shim answers with
the hash of the token that a load will bring. The pods of a pool are all alike and can't be told it before.
"""

import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from appfn.agent.shim import TOKEN_PATH, ShimClient, ShimError
from appfn.agent.start_signal import StartSignal

PATH = "/internal/v1/pods"
LONGEST_PAUSE = 15.0


class Announcement(NamedTuple):
    """What this pod announces, and to whom."""

    shim: ShimClient
    address: str
    """The pod's IP address."""
    after_boot: bool
    """Wait for the runtime: a pod of a pool is of use only when it is up."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Announcement | None":
        """Return what the environment asks for, None where nobody is to be told."""
        if not environ.get("APPFN_ANNOUNCE_URL"):
            return None
        return cls(
            shim=ShimClient(
                url=environ["APPFN_ANNOUNCE_URL"].rstrip("/"),
                token_path=Path(environ.get("APPFN_TOKEN_FILE", TOKEN_PATH)),
                token=environ.get("APPFN_ANNOUNCE_TOKEN", ""),
                speaks_for=environ.get("APPFN_ANNOUNCE_AS", ""),
            ),
            address=environ["APPFN_POD_IP"],
            after_boot="APPFN_POOL" in environ,
        )

    def start(self, signal: StartSignal, arm: Callable[[str], None]) -> None:
        """Announce in the background until the shim has answered; `arm` gets the hash it answered with."""
        threading.Thread(target=self._run, args=(signal, arm), name="announce", daemon=True).start()

    def _run(self, signal: StartSignal, arm: Callable[[str], None]) -> None:
        if self.after_boot:
            signal.wait()
        arm(self._persistently(booted=self.after_boot))

    def _persistently(self, *, booted: bool) -> str:
        """Return the shim's answer. A shim that refuses may be one whose caches don't show us yet, so ask again."""
        pause = 0.1
        while True:
            try:
                return str(self.shim.post(PATH, {"address": self.address, "booted": booted})["loadTokenSha256"])
            except (ShimError, OSError, KeyError, TypeError) as error:
                print(f"the shim did not take our announcement, trying again: {error}", file=sys.stderr, flush=True)
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - spreads the pods of a pool
            pause = min(2 * pause, LONGEST_PAUSE)

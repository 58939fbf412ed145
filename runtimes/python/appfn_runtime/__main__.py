"""Starts the server and, beside it, waits for the start signal."""

import importlib
import os
import sys
import threading
import traceback
from pathlib import Path

from .loader import Code, load, receive_start
from .logs import install_capture
from .server import Server


def main() -> None:
    """Serve until told to stop."""
    install_capture()
    server = Server(("0.0.0.0", int(os.environ.get("APPFN_RUNTIME_PORT") or 3000)))  # noqa: S104 - a pod's own address
    start = Path(os.environ.get("APPFN_DIR", "/appfn")) / "start"
    threading.Thread(target=_load, args=(server, start), name="load", daemon=True).start()
    server.run()


def _load(server: Server, start: Path) -> None:
    if not (start.parent / "code").exists():  # else somebody waits for it, in a pod that was made for a call
        importlib.import_module(".coroutines", __package__)
    try:
        code: Code = load(receive_start(start))
    except BaseException:  # noqa: BLE001 - without its code the process is of no use
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    server.use(code)


main()

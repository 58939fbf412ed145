"""From the start signal to the user's function."""

import importlib
import importlib.util
import json
import os
import site
import sys
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from .logs import LogSink, keep_for_first_execution, sink_of

POLL_SECONDS = 0.005
DEFAULT_ENTRYPOINT = "main.py"
PACKAGE = "userlib"
"""Package that the code is imported as, so that its modules may import each other relatively."""
SITE_PACKAGES = ".appfn/site-packages"

Main = Callable[[Any, Any], Any]


class CodeError(Exception):
    """The code can't be used as it is; the message says why, a trace would add nothing."""


class Start(NamedTuple):
    """The start document."""

    entrypoint: str
    key: str
    env: dict[str, str]
    code: str


class Code(NamedTuple):
    """What every request needs: the challenge's key and either the function or why there is none."""

    key: bytes
    main: Main | None = None
    stdout: str = ""
    stderr: str = ""
    """What loading printed and its trace, where `main` is None."""


def receive_start(path: Path) -> Start:
    """Wait for the FIFO to exist, then for its one document."""
    while not path.is_fifo():
        time.sleep(POLL_SECONDS)
    document = json.loads(path.read_bytes())
    return Start(**{name: document[name] for name in ("entrypoint", "key", "env", "code")})


def load(start: Start) -> Code:
    """Import the code of a start document."""
    sink = LogSink()
    key = start.key.encode()
    token = sink_of.set(sink)
    try:
        main = _import_main(start)
    except CodeError as error:
        sink.err.write(f"{error}\n")
    except BaseException as error:  # noqa: BLE001 - whatever user code raises while it is imported, SystemExit too
        sink.err.write(trace(error))
    else:
        keep_for_first_execution(sink)
        return Code(key, main)
    finally:
        sink_of.reset(token)
    stdout, stderr = sink.close()
    return Code(key, stdout=stdout, stderr=stderr)


def trace(error: BaseException) -> str:
    """Return a traceback as the user's code sees it: without the frames of this server and of the importer."""
    own = str(Path(__file__).parent)
    formatted = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = formatted
    while link is not None:
        frames = [
            f
            for f in link.stack
            if not f.filename.startswith((own, "<frozen importlib")) and f.name != "_call_with_frames_removed"
        ]
        link.stack = traceback.StackSummary.from_list(frames)
        link = link.__cause__ or link.__context__
    return "".join(formatted.format())


def _import_main(start: Start) -> Main:
    for name, value in start.env.items():
        os.environ[name] = value
    entrypoint = PurePosixPath(start.entrypoint or DEFAULT_ENTRYPOINT)
    path = Path(start.code) / entrypoint
    if entrypoint.is_absolute() or ".." in entrypoint.parts:
        raise CodeError(f"The entrypoint '{entrypoint}' is outside of the code.")
    if not path.is_file():
        raise CodeError(f"The entrypoint '{entrypoint}' is not in the code.")
    if b"async def" in path.read_bytes():
        # Now, as what it imports would be looked for among the code's own modules from here on.
        importlib.import_module(".coroutines", __package__)
    os.chdir(start.code)
    _extend_path(Path(start.code), path.parent)
    module = _import(Path(start.code), entrypoint)
    main = getattr(module, "main", None)
    if not callable(main):
        raise CodeError(f"'{entrypoint}' has no function 'main': define def main(req, res).")
    return main  # type: ignore[no-any-return]  # callable is all that can be known


def _extend_path(code: Path, folder: Path) -> None:
    """Let the code import its own modules, from the top and from beside the entrypoint, and its dependencies."""
    sys.path[:0] = [str(folder)] if folder == code else [str(folder), str(code)]
    site.addsitedir(str(code / SITE_PACKAGES))


def _import(code: Path, entrypoint: PurePosixPath) -> types.ModuleType:
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(code)]
    sys.modules[PACKAGE] = package
    parents = entrypoint.parent.parts
    if entrypoint.suffix == ".py" and "." not in "".join((*parents, entrypoint.stem)):
        return importlib.import_module(".".join((PACKAGE, *parents, entrypoint.stem)))
    return _import_file(code / entrypoint)


def _import_file(path: Path) -> types.ModuleType:
    """Import a file whose path makes no module name."""
    loader = importlib.machinery.SourceFileLoader("userlib_entrypoint", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    loader.exec_module(module)
    return module

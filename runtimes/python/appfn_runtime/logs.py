"""Logs per execution: what code prints belongs to the execution whose context it runs in.

`sys.stdout` and `sys.stderr` are replaced before any user code is imported, so that `print`, `logging` handlers and
libraries all write through them. The context follows `await` by itself; here it is made to follow new threads and
thread pools too. Output from outside of any execution goes to the container's own log.
"""

import concurrent.futures
import contextvars
import io
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

MAX_OUTPUT = 1_000_000
"""Bytes kept of each stream of one execution."""
_CUT = "\n[the output is longer than 1000000 bytes and cut here]"


class Output:
    """One stream of one execution, with a bound on its size. Writing is safe from many threads."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._room = MAX_OUTPUT - len(_CUT)
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Add text, as far as there is room."""
        data = text.encode("utf-8", "replace")
        with self._lock:
            if self._room < 0:
                return
            self._room -= len(data)
            if self._room >= 0:
                self._pieces.append(data.decode())
            else:
                self._pieces.append(data[: self._room].decode("utf-8", "ignore") + _CUT)

    def text(self) -> str:
        """Return all of it, without the last line's end."""
        return "".join(self._pieces).removesuffix("\n")


class LogSink:
    """The two streams of one execution. Once closed, what is still written goes to the container's log."""

    __slots__ = ("err", "open", "out")

    def __init__(self) -> None:
        self.out = Output()
        self.err = Output()
        self.open = True

    def close(self) -> tuple[str, str]:
        """Return stdout and stderr."""
        self.open = False
        return self.out.text(), self.err.text()


sink_of: contextvars.ContextVar[LogSink | None] = contextvars.ContextVar("appfn_sink", default=None)
_first: list[LogSink] = []


def keep_for_first_execution(sink: LogSink) -> None:
    """Show what a module printed while it was imported in its first execution, as v2 images do."""
    if any(sink.close()):
        sink.open = True
        _first.append(sink)


def new_sink() -> LogSink:
    """Return the sink of a new execution."""
    sink = LogSink()
    if _first:
        try:
            earlier = _first.pop()
        except IndexError:  # another thread's execution was the first
            return sink
        for source, target in zip(earlier.close(), (sink.out, sink.err), strict=True):
            if source:
                target.write(f"{source}\n")
    return sink


class _Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr`: writes to the context's sink."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, original: TextIO, pick: Callable[[LogSink], Output]) -> None:
        self._original = original
        self._pick = pick
        self.buffer = _Buffer(self)

    def write(self, text: str) -> int:
        sink = sink_of.get()
        if sink is not None and sink.open:
            self._pick(sink).write(text)
        else:
            self._original.write(text)
            self._original.flush()
        return len(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        return self._original.fileno()


class _Buffer(io.RawIOBase):
    """The binary side of a `_Stream`."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def writable(self) -> bool:
        return True


def install_capture() -> None:
    """Replace the streams and make contexts follow threads."""
    sys.stdout = _Stream(sys.stdout, lambda sink: sink.out)
    sys.stderr = _Stream(sys.stderr, lambda sink: sink.err)
    _follow_threads()
    _follow_pools()


def _follow_threads() -> None:
    start = threading.Thread.start

    def start_in_context(self: threading.Thread) -> None:
        if sink_of.get() is not None:
            context, run = contextvars.copy_context(), self.run
            self.run = lambda: context.run(run)  # type: ignore[method-assign]
        start(self)

    threading.Thread.start = start_in_context  # type: ignore[method-assign]


def _follow_pools() -> None:
    submit = concurrent.futures.ThreadPoolExecutor.submit

    def submit_in_context(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, contextvars.copy_context().run, fn, *args, **kwargs)

    concurrent.futures.ThreadPoolExecutor.submit = submit_in_context  # type: ignore[method-assign]

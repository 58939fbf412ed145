"""Structured logs: one JSON object a line on stderr, key=value context, never a payload or a secret."""

import json
import logging
import queue
import sys
import threading
from datetime import UTC, datetime
from typing import Any, TextIO

_TALKATIVE = ("aiosqlite", "kubernetes")
"""Libraries whose debug records hold rows, payloads or Secrets."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MAX_LINES = 10_000
"""Lines that wait to be written; beyond, they are dropped and counted."""
_FLUSH_SECONDS = 2.0
"""How long the end of the process waits for a reader of its log."""


class JsonFormatter(logging.Formatter):
    """Format a record as one line of JSON: time, level, logger, message, and what `extra` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


class BackgroundHandler(logging.Handler):
    """Writes lines from a thread of its own, so that a slow reader of the log holds up no call."""

    def __init__(self, stream: TextIO, *, most: int = _MAX_LINES) -> None:
        """`most` is how many lines may wait; those that find no room are dropped, and their number is logged."""
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(most)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the line over; never waits."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:  # noqa: BLE001 - as logging's own handlers: a record that can't be formatted stops nobody
            self.handleError(record)

    def close(self) -> None:
        """Write what waits, for two seconds at most; logging calls this when the process ends."""
        try:
            self._lines.put(None, timeout=_FLUSH_SECONDS)
        except queue.Full:
            return
        finally:
            super().close()
        self._thread.join(_FLUSH_SECONDS)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            self._stream.write(line + "\n")
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._stream.write(self.format(_loss(dropped)) + "\n")
            if self._lines.empty():
                self._stream.flush()
        self._stream.flush()


def _loss(lines: int) -> logging.LogRecord:
    extra = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "dropped": lines}
    return logging.makeLogRecord(extra | {"msg": "log lines were dropped: the log is read too slowly"})


def configure_logging(level: str) -> None:
    """Send the root logger's records to stderr as JSON, from `level` (a name of `logging`) on."""
    handler = BackgroundHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    quiet_libraries()


def quiet_libraries() -> None:
    """Keep data out of the logs whatever the level: libraries that write it at DEBUG start at INFO."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)

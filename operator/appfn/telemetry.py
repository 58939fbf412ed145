"""Structured logs: one JSON object a line on stderr, key=value context, never a payload or a secret."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_TALKATIVE = ("aiosqlite", "kubernetes")
"""Libraries whose debug records hold rows, payloads or Secrets."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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


def configure_logging(level: str) -> None:
    """Send the root logger's records to stderr as JSON, from `level` (a name of `logging`) on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    quiet_libraries()


def quiet_libraries() -> None:
    """Keep data out of the logs whatever the level: libraries that write it at DEBUG start at INFO."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)

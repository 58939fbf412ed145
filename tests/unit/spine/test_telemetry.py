"""Logs are JSON lines with the context they were given."""

import json
import logging
import sys

from appfn.telemetry import JsonFormatter


def formatted(**extra: object) -> dict[str, object]:
    record = logging.getLogger("appfn.test").makeRecord(
        "appfn.test", logging.INFO, __file__, 1, "said %s", ("so",), None, extra=extra
    )
    line: dict[str, object] = json.loads(JsonFormatter().format(record))
    return line


def test_a_line_holds_message_level_and_context() -> None:
    line = formatted(execution="e1")

    assert line["message"] == "said so"
    assert line["level"] == "info"
    assert line["execution"] == "e1"


def test_an_exception_is_part_of_its_line() -> None:
    try:
        int("broken")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "m", (), sys.exc_info())

    assert "ValueError: invalid literal" in json.loads(JsonFormatter().format(record))["exception"]

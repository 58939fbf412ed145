"""Logs are JSON lines with the context they were given."""

import json
import logging
import sys
import threading
from io import StringIO

from appfn.telemetry import BackgroundHandler, JsonFormatter


class SlowReader(StringIO):
    """A log that is not read until it is."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.writing = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.writing.set()
        self.reading.wait(10)
        return super().write(text)


def said(handler: logging.Handler, *messages: str) -> None:
    for message in messages:
        handler.handle(logging.makeLogRecord({"name": "x", "msg": message, "levelname": "INFO"}))


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


def test_who_logs_does_not_wait_for_a_slow_reader_and_what_is_lost_is_counted() -> None:
    log = SlowReader()
    handler = BackgroundHandler(log, most=2)
    handler.setFormatter(JsonFormatter())

    said(handler, "first")
    assert log.writing.wait(10)
    said(handler, "second", "third", "fourth", "fifth")  # would hang here
    log.reading.set()
    handler.close()

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["message"] for line in lines if "dropped" not in line] == ["first", "second", "third"]
    assert [line["dropped"] for line in lines if "dropped" in line] == [2]


def test_what_is_logged_last_is_written_when_the_process_ends() -> None:
    log = StringIO()
    handler = BackgroundHandler(log)

    said(handler, *(str(number) for number in range(1000)))
    handler.close()

    assert len(log.getvalue().splitlines()) == 1000

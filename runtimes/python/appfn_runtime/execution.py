"""One execution: from the call to the envelope that answers it."""

import json
from collections.abc import Coroutine
from typing import Any, NamedTuple

from .loader import Code, trace
from .logs import LogSink, new_sink, sink_of

LOWEST_STATUS = 200
HIGHEST_STATUS = 599
NO_ANSWER = "The function returned no answer: return res.json({...}) or res.send('...')."


class Request:
    """The `req` of a function, which may change it."""

    def __init__(self, *, variables: dict[str, Any], headers: dict[str, Any], payload: str) -> None:
        self.variables = variables
        self.headers = headers
        self.payload = payload

    def __repr__(self) -> str:
        return f"Request(variables={self.variables!r}, headers={self.headers!r}, payload={self.payload!r})"


class Answer(NamedTuple):
    """What `res.send` and `res.json` return: the value, encoded, and the status."""

    encoded: str
    status: int


class Response:
    """The `res` of a function. The value a function returns counts; where it returns none, its last answer does."""

    def __init__(self) -> None:
        self.answer: Answer | None = None

    def send(self, text: Any, status: int = 200) -> Answer:
        """Answer with a text."""
        return self._take("send", text, status)

    def json(self, obj: Any, status: int = 200) -> Answer:
        """Answer with a value that JSON can say."""
        return self._take("json", obj, status)

    def _take(self, method: str, value: Any, status: int) -> Answer:
        if not isinstance(status, int) or not LOWEST_STATUS <= status <= HIGHEST_STATUS:
            raise ValueError(f"res.{method}: the status must be an integer from 200 to 599, not {status!r}")
        encoded = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self.answer = Answer(encoded, int(status))
        return self.answer


def execute(code: Code, request: Request) -> tuple[int, str]:
    """Run the function in this thread; return the HTTP status and the envelope as JSON."""
    if code.main is None:
        return 500, envelope(code.stdout, code.stderr)
    sink = new_sink()
    token = sink_of.set(sink)
    try:
        answer = _call(code, request, sink)
    except BaseException as error:  # noqa: BLE001 - whatever user code raises, SystemExit too
        sink.err.write(trace(error))
        answer = None
    finally:
        sink_of.reset(token)
    stdout, stderr = sink.close()
    if answer is None:
        return 500, envelope(stdout, stderr)
    return answer.status, envelope(stdout, stderr, answer.encoded)


def envelope(stdout: str, stderr: str, encoded: str | None = None) -> str:
    """Return the envelope as JSON; without a response where there is none."""
    logs = f'"stdout":{json.dumps(stdout, ensure_ascii=False)},"stderr":{json.dumps(stderr, ensure_ascii=False)}}}'
    return f"{{{logs}" if encoded is None else f'{{"response":{encoded},{logs}'


def _call(code: Code, request: Request, sink: LogSink) -> Answer | None:
    assert code.main is not None
    response = Response()
    returned = code.main(request, response)
    if isinstance(returned, Coroutine):
        from .coroutines import wait_for  # noqa: PLC0415 - asyncio takes as long to import as all else

        returned = wait_for(returned)
    answer = returned if isinstance(returned, Answer) else response.answer
    if answer is None:
        sink.err.write(f"{NO_ANSWER}\n")
    return answer

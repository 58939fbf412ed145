"""Protocol v2 (open-runtimes 0.3): one JSON document in, one JSON envelope out.

The envelope comes from user code that may hold the whole pod, so nothing in it is believed: size, encoding, JSON and
types are checked, and whatever does not fit becomes a named failure.
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NoReturn, cast

import orjson
from msgspec.structs import replace

from appfn.api.execution import ExecutionPhase
from appfn.core.records import MAX_OUTPUT, Invocation, Outcome
from appfn.dispatch import failures
from appfn.dispatch.messages import Reply, Request

MAX_ENVELOPE = 9 * MAX_OUTPUT + 65_536
"""Bytes of a body read at most: response, stdout and stderr at their limits, each grown threefold by JSON's escapes."""

_CHALLENGE = "x-internal-challenge"
_STATUSES = range(200, 600)
_SERVER_ERROR = 500
_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED})
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_MAX_UTF8 = 4
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_CUT_NOTE = f"\n[cut: more than {MAX_OUTPUT:,} bytes]"


class _EnvelopeError(ValueError):
    """The envelope is not what the protocol says; the message never quotes it."""


def encode(invocation: Invocation, *, key: str) -> Request:
    """Return the request for an invocation; `key` is the pod's runtime key."""
    document = {
        "variables": dict(invocation.variables),
        "payload": invocation.payload,
        "headers": dict(invocation.headers),
    }
    try:
        body = orjson.dumps(document)
    except TypeError:
        # ASCII escapes keep lone surrogates, which a client's JSON may hold and UTF-8 may not.
        body = json.dumps(document, separators=(",", ":")).encode("ascii")
    return Request(headers={"content-type": "application/json", _CHALLENGE: key}, body=body)


def ask_running(*, key: str) -> Request:
    """Return the request by which appfn's own runtimes tell how many calls they run; others don't know it."""
    return Request(method="GET", path="/appfn/running", headers={_CHALLENGE: key}, body=b"")


def decode(reply: Reply) -> Outcome:
    """Return the outcome a reply stands for, without duration and times."""
    if not reply.complete:
        return failures.failed(failures.response_too_large())
    if reply.status not in _STATUSES:
        return failures.failed(failures.invalid_response("its status is not between 200 and 599"))
    if reply.status >= _SERVER_ERROR:
        return _function_error(reply)
    try:
        return _completed(reply)
    except _EnvelopeError as error:
        return failures.failed(failures.invalid_response(str(error)))


def _function_error(reply: Reply) -> Outcome:
    try:
        envelope = _parse(reply.body)
        stdout, stderr = _text(envelope, "stdout"), _text(envelope, "stderr")
    except _EnvelopeError:  # v2 servers of several languages answer 500 in plain text
        stdout, stderr = "", ""
    failure = failures.function_error(reply.status)
    outcome = failures.failed(failure, stdout=_cut(stdout), stderr=_cut(stderr or failures.DEFAULT_STDERR))
    return replace(outcome, status_code=reply.status)


def _completed(reply: Reply) -> Outcome:
    envelope = {} if not reply.body and reply.status in _BODILESS else _parse(reply.body)
    texts = _plain(envelope)
    if texts is None:
        response, stdout, stderr = _response(envelope), _text(envelope, "stdout"), _text(envelope, "stderr")
        if not _fits(response):
            failure = failures.response_too_large()
            lines = [stderr, failure.message] if stderr else [failure.message]
            return failures.failed(failure, stdout=_cut(stdout), stderr=_cut("\n".join(lines)))
        texts = response, _cut(stdout), _cut(stderr)
    response, stdout, stderr = texts
    return Outcome(
        phase=ExecutionPhase.COMPLETED, status_code=reply.status, response=response, stdout=stdout, stderr=stderr
    )


def _plain(envelope: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the three texts of an envelope like nearly all: ASCII, and small together; None for any other."""
    response, stdout, stderr = envelope.get("response"), envelope.get("stdout"), envelope.get("stderr")
    if type(response) is str and type(stdout) is str and type(stderr) is str:
        together = f"{response}{stdout}{stderr}"
        if together.isascii() and len(together) <= MAX_OUTPUT:
            return response, stdout, stderr
    return None


def _parse(body: bytes) -> dict[str, Any]:
    envelope = _parsed(body)
    if not isinstance(envelope, dict):
        raise _EnvelopeError("its body is not a JSON object")
    response = envelope.get("response")
    if not (response is None or isinstance(response, str)) and _LONG_NUMBER.search(body):
        # orjson makes a float of an integer over 64 bits; only in a response are numbers kept.
        return cast("dict[str, Any]", _parsed_exactly(body))
    return envelope


def _parsed(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except ValueError:  # or a lone surrogate or a number that is too large for orjson
        return _parsed_exactly(body)


def _parsed_exactly(body: bytes) -> object:
    try:
        return json.loads(body.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise _EnvelopeError("its body is not UTF-8") from None
    except (ValueError, RecursionError):
        raise _EnvelopeError("its body is not JSON") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _response(envelope: Mapping[str, Any]) -> str:
    """Return `response` as text: strings as they are, other values as compact JSON, absent and null as empty."""
    value = envelope.get("response")
    if value is None:
        return ""
    if isinstance(value, str):
        return _clean(value)
    try:
        return _clean(_COMPACT.encode(value))
    except (ValueError, RecursionError):
        raise _EnvelopeError("`response` cannot be written as JSON") from None


def _text(envelope: Mapping[str, Any], field_name: str) -> str:
    value = envelope.get(field_name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _EnvelopeError(f"`{field_name}` is not a string")
    return _clean(value)


def _clean(text: str) -> str:
    """Replace lone surrogates, which JSON can spell and no UTF-8 database or client takes."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _fits(text: str) -> bool:
    """Tell whether a text has at most `MAX_OUTPUT` bytes."""
    return len(text) * _MAX_UTF8 <= MAX_OUTPUT or len(text.encode()) <= MAX_OUTPUT


def _cut(text: str) -> str:
    """Return text of at most `MAX_OUTPUT` bytes; where it is cut, its last line says so."""
    if _fits(text):
        return text
    raw = text.encode()
    return raw[: MAX_OUTPUT - len(_CUT_NOTE)].decode(errors="ignore") + _CUT_NOTE

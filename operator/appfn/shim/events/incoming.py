"""CloudEvents 1.0 over HTTP, pure: a request's headers and body in, what happened out."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import CE_PREFIX, HTTPMessage, from_binary
from cloudevents.core.exceptions import BaseCloudEventException, MissingRequiredAttributeError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import REQUIRED_ATTRIBUTES, CloudEvent

from appfn.core import events
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.events.occurrence import Occurrence, user_of

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
MAX_BATCH = 100
MAX_TYPE = 256
USER_EXTENSION = "appwriteuserid"
"""Extension attribute that names the user who caused an event."""
_ODD = (BaseCloudEventException, ValueError, TypeError, AttributeError, RecursionError, OverflowError)
"""What the library raises for what is no CloudEvent: it uses most values before it looks at their types."""
_FORMS = (
    f"Send a CloudEvent with headers ce-specversion, ce-id, ce-source and ce-type, or one of Content-Type {STRUCTURED} "
    f"or {BATCH}, or a webhook of Appwrite."
)


def parse(headers: Mapping[str, str], content_type: str, body: bytes) -> list[Occurrence]:
    """Return the events of a request, in any of the three modes.

    Raises:
        AppwriteError: general_argument_invalid, saying which event is wrong.
    """
    match content_type:
        case _ if content_type == STRUCTURED:
            return [_structured(body, "The CloudEvent")]
        case _ if content_type == BATCH:
            return _batch(body)
        case _ if any(name.lower().startswith(CE_PREFIX) for name in headers):
            return [_binary(headers, body)]
        case _:
            raise AppwriteError(Problem.ARGUMENT_INVALID, _FORMS)


def _batch(body: bytes) -> list[Occurrence]:
    try:
        items = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, "The batch is not valid JSON.") from error
    if not isinstance(items, list) or len(items) > MAX_BATCH:
        raise AppwriteError(Problem.ARGUMENT_INVALID, f"A batch is a JSON array of at most {MAX_BATCH} CloudEvents.")
    return [_structured(json.dumps(item).encode(), f"CloudEvent {index}") for index, item in enumerate(items)]


def _structured(document: bytes, what: str) -> Occurrence:
    try:
        event = JSONFormat().read(_checked, document)
    except _ODD as error:
        raise _refusal(what, error) from error
    return _occurrence(event, what)


def _binary(headers: Mapping[str, str], body: bytes) -> Occurrence:
    try:
        event = from_binary(HTTPMessage(dict(headers), body), JSONFormat(), _checked)
    except _ODD as error:
        raise _refusal("The CloudEvent", error) from error
    return _occurrence(event, "The CloudEvent")


def _checked(attributes: dict[str, Any], data: dict[str, Any] | str | bytes | None) -> CloudEvent:
    """Return the event; the library would invent an id for one that has none, which no repetition could have."""
    if missing := [name for name in REQUIRED_ATTRIBUTES if name not in attributes]:
        raise MissingRequiredAttributeError(", ".join(missing))
    return CloudEvent(attributes, data)


def _refusal(what: str, error: Exception) -> AppwriteError:
    told = isinstance(error, BaseCloudEventException)
    reason = str(error) if told else "it is not valid JSON, or an attribute is not of its type"
    return AppwriteError(Problem.ARGUMENT_INVALID, f"{what} cannot be read: {reason}.")


def _occurrence(event: BaseCloudEvent, what: str) -> Occurrence:
    type_, user = event.get_type(), event.get_extension(USER_EXTENSION) or ""
    if len(type_) > MAX_TYPE:
        raise invalid_argument("type", f"{what} has one of more than {MAX_TYPE} characters")
    return Occurrence(
        names=events.names_of(type_),
        id=event.get_id(),
        source=event.get_source(),
        data=_json(event.get_data(), what),
        user_id=user_of(USER_EXTENSION, str(user)),
    )


def _json(data: dict[str, Any] | str | bytes | None, what: str) -> str:
    """Return data as JSON, so that a function can parse whatever it gets: text and bytes (in base64) as a string."""
    content = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    try:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise AppwriteError(Problem.ARGUMENT_INVALID, f"{what} has data that JSON can't hold.") from error

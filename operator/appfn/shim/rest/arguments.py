"""The arguments of an operation, checked as Appwrite does, pure: whatever a client sent in, values or an error out."""

from collections.abc import Mapping
from typing import Any, assert_never

from appfn.api.base import Json
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.rest.operation import In, Operation, Parameter, Type

_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})
_DIGITS = 18


def validated(operation: Operation, given: Mapping[str, Any]) -> Json:
    """Return the arguments of an operation by name; unknown ones are ignored, as Appwrite does.

    Args:
        operation: which.
        given: by name, from path, query and body together. Strings stand for numbers and booleans too, as forms and
            URLs have nothing else.

    Raises:
        AppwriteError: general_argument_invalid, naming the parameter.
    """
    found: Json = {}
    for parameter in operation.parameters:
        value = given.get(parameter.name)
        if value is None:
            if parameter.required:
                raise AppwriteError(Problem.ARGUMENT_INVALID, f'Param "{parameter.name}" is not optional.')
            continue
        found[parameter.name] = _checked(parameter, value)
    return found


def _checked(parameter: Parameter, value: Any) -> Any:
    match parameter.type:
        case Type.STRING:
            return _string(parameter, value)
        case Type.INTEGER:
            return _integer(parameter, value)
        case Type.BOOLEAN:
            return _boolean(parameter, value)
        case Type.STRINGS:
            return _strings(parameter, value)
        case Type.OBJECT | Type.FILE:
            return value
        case _:
            assert_never(parameter.type)


def _string(parameter: Parameter, value: Any) -> str:
    if not isinstance(value, str) or not _is_unicode(value):
        raise invalid_argument(parameter.name, "Value must be a valid string")
    if parameter.where is In.PATH:
        return value
    if parameter.required and not value and parameter.max_length is not None:
        raise invalid_argument(parameter.name, "Value must not be empty")
    if parameter.max_length is not None and len(value) > parameter.max_length:
        raise invalid_argument(
            parameter.name, f"Value must be a valid string and at most {parameter.max_length} chars long"
        )
    if parameter.choices and value not in parameter.choices:
        raise invalid_argument(parameter.name, f"Value must be one of ({', '.join(parameter.choices)})")
    return value


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _integer(parameter: Parameter, value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= _DIGITS:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid_argument(parameter.name, "Value must be a valid integer")
    low, high = parameter.low, parameter.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise invalid_argument(parameter.name, f"Value must be a valid range between {low} and {high}")
    return value


def _boolean(parameter: Parameter, value: Any) -> bool:
    match value:
        case bool():
            return value
        case 0 | 1:
            return bool(value)
        case str() if value in _TRUE | _FALSE:
            return value in _TRUE
        case _:
            raise invalid_argument(parameter.name, "Value must be a valid boolean")


def _strings(parameter: Parameter, value: Any) -> list[str]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) and _is_unicode(item) for item in items):
        raise invalid_argument(parameter.name, "Value must be a valid array of strings")
    if parameter.max_items is not None and len(items) > parameter.max_items:
        raise invalid_argument(parameter.name, f"Value must be a valid array of at most {parameter.max_items} items")
    if parameter.max_length is not None and any(len(item) > parameter.max_length for item in items):
        raise invalid_argument(parameter.name, f"Each value must be at most {parameter.max_length} chars long")
    return items

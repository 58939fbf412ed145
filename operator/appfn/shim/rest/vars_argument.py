"""The argument `vars` of 0.13 to 0.15: all variables of a function at once."""

from aiohttp import web

from appfn.api.base import Json
from appfn.api.function import Function
from appfn.shim import function_variables, variable_writes
from appfn.shim.errors import invalid_argument
from appfn.shim.function_variables import Edit, Edits
from appfn.shim.rest.variable_arguments import MAX_KEY, MAX_VARIABLES, checked_value, is_name, new_id
from appfn.shim.services import SURROUNDINGS


def values(arguments: Json) -> dict[str, str] | None:
    """Return the variables by name; None where the argument is left out: they stay as they are.

    Raises:
        AppwriteError: general_argument_invalid, without the values.
    """
    given = arguments.get("vars")
    if given is None:
        return None
    if given == []:  # PHP's way to write an empty object
        return {}
    if not isinstance(given, dict) or len(given) > MAX_VARIABLES:
        raise invalid_argument("vars", f"Value must be an object of at most {MAX_VARIABLES} variables")
    for name, value in given.items():
        if not is_name(name):
            raise invalid_argument("vars", f"a name has at most {MAX_KEY} letters, digits and underscores")
        if not isinstance(value, str):
            raise invalid_argument("vars", "each value must be a string")
        checked_value(value)
    return given


async def write(app: web.Application, function: Function, wanted: dict[str, str]) -> Function:
    """Give a function these variables and no others; return it as it is now. Raises as `variable_writes.write`."""
    now = app[SURROUNDINGS].now()
    before = {item.name: item for item in function_variables.known(function)}
    ids = {name: before[name].id if name in before else new_id() for name in wanted}
    keys = {name: variable_writes.new_key(ids[name]) for name, value in wanted.items() if not _is(before, name, value)}

    def edits(current: Function) -> Edits:
        there = {item.name: item for item in function_variables.known(current)}
        found: dict[str, Edit | None] = {name: None for name in there if name not in wanted}
        for name, key in keys.items():
            secret = name in there and there[name].secret
            made = before[name].created_at if name in before else None
            found[name] = Edit(id=ids[name], secret=secret, created_at=made or now, updated_at=now, stored=key)
        return found

    return await variable_writes.write(app, function, {key: wanted[name] for name, key in keys.items()}, edits)


def _is(before: dict[str, function_variables.Known], name: str, value: str) -> bool:
    """Tell whether a variable has this value in the Function itself, or is a secret, which clients send back empty."""
    return name in before and (before[name].value == value or (before[name].secret and not value))

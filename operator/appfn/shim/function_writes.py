"""How the API writes Functions: as one manager among others, who does not overrule them."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from appfn import names
from appfn.api.base import Json
from appfn.api.function import Function
from appfn.api.kinds import FUNCTION
from appfn.errors import ConflictError, RejectedError, TransientError
from appfn.shim import own_writes, ownership
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.ownership import Change
from appfn.shim.services import CATALOG, SURROUNDINGS

_TRIES = 20
"""How often a change is decided anew: so many clients may change one function at once."""
_FIELD = re.compile(r"\bspec\.([A-Za-z]+)\S*: (.*)", re.DOTALL)
"""In the API server's words, the first field that is wrong, and why."""


async def create(app: web.Application, manifest: Json) -> Function:
    """Make a Function and return it as it is now.

    Raises:
        AppwriteError: function_already_exists, general_argument_invalid.
    """
    try:
        with rejected_is_invalid():
            made = await app[SURROUNDINGS].cluster.create(FUNCTION, manifest, manager=names.FIELD_MANAGER_API)
    except ConflictError as error:
        raise AppwriteError(Problem.FUNCTION_ALREADY_EXISTS) from error
    await own_writes.seen(app[CATALOG], FUNCTION, made)
    return Function.parse(made)


async def update(app: web.Application, function: Function, decide: Callable[[Json], Change]) -> Function:
    """Change a Function and return it as it is now.

    Args:
        app: where the parts are.
        function: which.
        decide: what to change of the Function as the API server has it; asked again where it changed meanwhile.

    Raises:
        AppwriteError: function_not_found, general_field_managed, general_argument_invalid; whatever `decide` raises.
        TransientError: others change it all the time.
    """
    cluster, key = app[SURROUNDINGS].cluster, function.metadata.key
    for _ in range(_TRIES):
        body = await cluster.get(FUNCTION, key)
        if body is None or body["metadata"]["uid"] != function.metadata.uid:
            raise AppwriteError(Problem.FUNCTION_NOT_FOUND)
        patch = ownership.merge_patch(body, decide(body))
        if patch is None:
            return Function.parse(body)
        try:
            with rejected_is_invalid():
                written = await cluster.merge_patch(FUNCTION, key, patch, manager=names.FIELD_MANAGER_API)
        except ConflictError:
            continue
        if written is None:
            raise AppwriteError(Problem.FUNCTION_NOT_FOUND)
        await own_writes.seen(app[CATALOG], FUNCTION, written)
        return Function.parse(written)
    raise TransientError(f"Function {key} changes faster than it can be written")


async def set_fields(app: web.Application, function: Function, **spec: object) -> Function:
    """Change fields of a Function's spec; raises as `update`."""
    return await update(app, function, lambda _body: Change(spec=spec))


@contextmanager
def rejected_is_invalid() -> Iterator[None]:
    """What a resource's schema refuses, and no parameter's check did, is a bad argument all the same."""
    try:
        yield
    except RejectedError as error:
        found = _FIELD.search(str(error))
        if found is None:
            raise AppwriteError(Problem.ARGUMENT_INVALID, str(error)) from error
        raise invalid_argument("name" if found[1] == "displayName" else found[1], found[2]) from error

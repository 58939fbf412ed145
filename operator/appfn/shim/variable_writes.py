"""How the API writes variables: the value into a Secret of the function, then the Function, then what is unused goes.

At each moment the Function names only keys that are there. Should the shim die between two steps, or not learn whether
the Function was written, a key may be left that nothing names; it goes with the function.
"""

import base64
import secrets
from collections.abc import Callable, Iterable, Mapping

from aiohttp import web

from appfn import names
from appfn.api.base import Json
from appfn.api.function import Function
from appfn.api.kinds import FUNCTION, SECRET, Key
from appfn.core.manifests.meta import owner_reference
from appfn.errors import ConflictError
from appfn.shim import function_variables, function_writes
from appfn.shim.errors import AppwriteError
from appfn.shim.function_variables import Edits, Known
from appfn.shim.services import RESOLVER, SURROUNDINGS

_KEY_BYTES = 4


def new_key(variable_id: str) -> str:
    """Return the key of a new value."""
    return f"{variable_id}.{secrets.token_hex(_KEY_BYTES)}"


async def write(
    app: web.Application, function: Function, values: Mapping[str, str], edits: Callable[[Function], Edits]
) -> Function:
    """Change variables of a function and return it as it is now.

    Args:
        app: where the parts are.
        function: which.
        values: new values by their keys in the Secret.
        edits: what is to become of the Function as it is at that moment.

    Raises:
        AppwriteError: as `function_writes.update`, and whatever `edits` raises.
    """
    before = function

    def noted(current: Function) -> Edits:
        nonlocal before
        before = current
        return edits(current)

    if values:
        await _put(app, function, _encoded(values))
    try:
        after = await function_writes.update(app, function, function_variables.decide(noted))
    except AppwriteError:  # after any other error the Function may name the values all the same
        await _drop(app, function, values)
        raise
    used = function_variables.stored_keys(after)
    await _drop(app, function, (function_variables.stored_keys(before) | values.keys()) - used)
    return after


async def values_of(app: web.Application, function: Function, variables: Iterable[Known]) -> dict[str, str]:
    """Return the values of those of a function's variables that may be shown, by name."""
    shown = [item for item in variables if not item.secret]
    keys = [item.stored for item in shown if item.stored]
    stored = await app[RESOLVER].stored(function, keys) if keys else {}
    return {item.name: stored.get(item.stored, "") if item.stored else item.value or "" for item in shown}


def _encoded(values: Mapping[str, str]) -> Json:
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


async def _put(app: web.Application, function: Function, data: Json) -> None:
    cluster, at = app[SURROUNDINGS].cluster, Key(function.metadata.namespace, function_variables.secret_name(function))
    with function_writes.rejected_is_invalid():
        if await cluster.merge_patch(SECRET, at, {"data": data}, manager=names.FIELD_MANAGER_API) is not None:
            return
        try:
            await cluster.create(SECRET, _manifest(function, data), manager=names.FIELD_MANAGER_API)
        except ConflictError:  # another request made it meanwhile
            await cluster.merge_patch(SECRET, at, {"data": data}, manager=names.FIELD_MANAGER_API)


async def _drop(app: web.Application, function: Function, keys: Iterable[str]) -> None:
    data = dict.fromkeys(keys)
    if data:
        at = Key(function.metadata.namespace, function_variables.secret_name(function))
        await app[SURROUNDINGS].cluster.merge_patch(SECRET, at, {"data": data}, manager=names.FIELD_MANAGER_API)


def _manifest(function: Function, data: Json) -> Json:
    metadata = {
        "name": function_variables.secret_name(function),
        "namespace": function.metadata.namespace,
        "labels": {names.MANAGED_BY: names.MANAGER, names.LABEL_FUNCTION: function.metadata.name},
        "ownerReferences": [owner_reference(FUNCTION, function.metadata)],
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}

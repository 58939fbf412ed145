"""A function's own variables, with those from Secrets and ConfigMaps resolved.

Objects are read by name only (`get`, never list or watch: the shim must not hold the secrets of a cluster), kept for
`variable_cache_seconds`, then used once more while they are read anew, so that a call on a warm path never waits.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from appfn import names
from appfn.api.base import Json
from appfn.api.function import Function, KeySelector, Variable
from appfn.api.kinds import CONFIG_MAP, SECRET, Key, Kind
from appfn.errors import ForbiddenError, InvalidSpecError
from appfn.kube.protocols import Reader
from appfn.shim.cache import Freshness, TtlCache

_CACHE_SIZE = 4096
_TRIES = 3
"""How often a Secret is read for a key that it lacks: one read may have begun before the key was written."""
_OUTAGE_SECONDS = 300.0
"""How long values are used while the API server does not answer."""


class VariableResolver:
    """Resolves `spec.variables`; `aclose` ends the reads that still run."""

    def __init__(self, reader: Reader, *, cache_seconds: float, monotonic: Callable[[], float]) -> None:
        self._reader = reader
        self._objects: TtlCache[tuple[Kind, Key], Json | None] = TtlCache(
            Freshness(fresh=cache_seconds, stale=cache_seconds, error=_OUTAGE_SECONDS),
            size=_CACHE_SIZE,
            monotonic=monotonic,
        )

    async def aclose(self) -> None:
        """End the reads that still run."""
        await self._objects.aclose()

    async def stored(self, function: Function, keys: Collection[str]) -> dict[str, str]:
        """Return the values that Appwrite's API keeps for a function, by key; those that are not there are left out.

        Raises:
            TransientError, ForbiddenError: they can't be read.
        """
        data = await self._stored(_stored_at(function), keys)
        return {key: base64.b64decode(data[key]).decode(errors="replace") for key in keys if key in data}

    async def _stored(self, address: Key, keys: Collection[str]) -> Mapping[str, str]:
        """Read the Secret of a function's variables. A new value has a new key: without it, what is at hand is old."""
        for _ in range(_TRIES):
            body = await self._read(SECRET, address)
            data: Mapping[str, str] = (body or {}).get("data") or {}
            if all(key in data for key in keys):
                break
            self._objects.forget((SECRET, address))
        return data

    async def resolve(self, function: Function) -> dict[str, str]:
        """Return the values of a function's variables by name; an optional one that is missing is left out.

        Raises:
            InvalidSpecError: names the path of the first reference that leads nowhere, never a value.
            TransientError: the API server can't answer.
        """
        variables = function.spec.variables
        values = {item.name: item.value or "" for item in variables if item.value_from is None}
        if len(values) == len(variables):
            return values
        references = [
            _reference(function, index, item) for index, item in enumerate(variables) if item.value_from is not None
        ]
        await self._fetch({reference.address for reference in references})
        own = SECRET, _stored_at(function)
        if keys := [reference.selector.key for reference in references if reference.address == own]:
            with suppress(ForbiddenError):  # told below
                await self._stored(own[1], keys)
        for reference in references:
            found = await self._referenced(reference)
            if found is not None:
                values[reference.variable] = found
        return values

    async def _fetch(self, addresses: set[tuple[Kind, Key]]) -> None:
        """Read what is not at hand side by side; whoever then asks for what could not be read is told why."""
        missing = [address for address in addresses if not self._objects.at_hand(address)]
        if len(missing) > 1:
            await asyncio.gather(*(self._read(*address) for address in missing), return_exceptions=True)

    async def _referenced(self, reference: "_Reference") -> str | None:
        kind, key = reference.address
        try:
            body = await self._read(kind, key)
        except ForbiddenError as error:
            message = f"the shim may not read {kind.name} {key.name!r}; grant it as manifests/project does"
            raise InvalidSpecError(reference.path, message) from error
        return _value(body, reference)

    async def _read(self, kind: Kind, key: Key) -> Json | None:
        return await self._objects.get((kind, key), lambda: self._reader.get(kind, key))


def _stored_at(function: Function) -> Key:
    metadata = function.metadata
    return Key(metadata.namespace, names.variables_secret(metadata.name, metadata.uid))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """A variable whose value is a key of an object."""

    variable: str
    address: tuple[Kind, Key]
    selector: KeySelector
    path: str
    text: Callable[[Json, str], str | None]


def _reference(function: Function, index: int, variable: Variable) -> _Reference:
    path, source = f"spec.variables[{index}].valueFrom", variable.value_from
    if source is not None and source.secret_key_ref is not None:
        selector, kind, text, path = source.secret_key_ref, SECRET, _secret_text, f"{path}.secretKeyRef"
    elif source is not None and source.config_map_key_ref is not None:
        selector, kind, text, path = source.config_map_key_ref, CONFIG_MAP, _config_map_text, f"{path}.configMapKeyRef"
    else:
        raise InvalidSpecError(path, "set secretKeyRef or configMapKeyRef")
    address = kind, Key(function.metadata.namespace, selector.name)
    return _Reference(variable=variable.name, address=address, selector=selector, path=path, text=text)


def _value(body: Json | None, reference: _Reference) -> str | None:
    selector, kind = reference.selector, reference.address[0]
    try:
        value = reference.text(body, selector.key) if body is not None else None
    except ValueError as error:
        message = f"the value of {selector.key!r} in {kind.name} {selector.name!r} is not UTF-8 text"
        raise InvalidSpecError(reference.path, message) from error
    if value is None and not selector.optional:
        missing = f"{kind.name} {selector.name!r}" + (f" has no key {selector.key!r}" if body else " does not exist")
        raise InvalidSpecError(reference.path, f"{missing}; create it, or set optional: true")
    return value


def _secret_text(body: Json, key: str) -> str | None:
    data: Mapping[str, str] = body.get("data") or {}
    try:
        return base64.b64decode(data[key]).decode() if key in data else None
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(key) from error


def _config_map_text(body: Json, key: str) -> str | None:
    data: Mapping[str, str] = body.get("data") or {}
    return data.get(key)

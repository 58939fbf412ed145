"""A function's own variables, with those from Secrets and ConfigMaps resolved.

Objects are read by name only (`get`, never list or watch: the shim must not hold the secrets of a cluster), kept for
`variable_cache_seconds`, then used once more while they are read anew, so that a call on a warm path never waits.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping

from appfn.api.base import Json
from appfn.api.function import Function, KeySelector, Variable
from appfn.api.kinds import CONFIG_MAP, SECRET, Key, Kind
from appfn.errors import ForbiddenError, InvalidSpecError
from appfn.kube.protocols import Reader
from appfn.shim.cache import Freshness, TtlCache

_CACHE_SIZE = 4096
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

    async def resolve(self, function: Function) -> dict[str, str]:
        """Return the values of a function's variables by name; an optional one that is missing is left out.

        Raises:
            InvalidSpecError: names the path of the first reference that leads nowhere, never a value.
            TransientError: the API server can't answer.
        """
        variables = function.spec.variables
        values = {item.name: item.value or "" for item in variables if item.value_from is None}
        references = [(index, item) for index, item in enumerate(variables) if item.value_from is not None]
        reads = (self._referenced(function, index, item) for index, item in references)
        for (_, item), found in zip(references, await asyncio.gather(*reads, return_exceptions=True), strict=True):
            if isinstance(found, BaseException):
                raise found
            if found is not None:
                values[item.name] = found
        return values

    async def _referenced(self, function: Function, index: int, variable: Variable) -> str | None:
        assert variable.value_from is not None
        path, source = f"spec.variables[{index}].valueFrom", variable.value_from
        namespace = function.metadata.namespace
        if source.secret_key_ref is not None:
            selector, kind = source.secret_key_ref, SECRET
            text = _secret_text
            path += ".secretKeyRef"
        elif source.config_map_key_ref is not None:
            selector, kind = source.config_map_key_ref, CONFIG_MAP
            text = _config_map_text
            path += ".configMapKeyRef"
        else:
            raise InvalidSpecError(path, "set secretKeyRef or configMapKeyRef")
        try:
            body = await self._read(kind, Key(namespace, selector.name))
        except ForbiddenError as error:
            message = f"the shim may not read {kind.name} {selector.name!r}; grant it as manifests/project does"
            raise InvalidSpecError(path, message) from error
        return _value(body, selector, kind=kind, path=path, text=text)

    async def _read(self, kind: Kind, key: Key) -> Json | None:
        return await self._objects.get((kind, key), lambda: self._reader.get(kind, key))


def _value(
    body: Json | None,
    selector: KeySelector,
    *,
    kind: Kind,
    path: str,
    text: Callable[[Json, str], str | None],
) -> str | None:
    try:
        value = text(body, selector.key) if body is not None else None
    except ValueError as error:
        message = f"the value of {selector.key!r} in {kind.name} {selector.name!r} is not UTF-8 text"
        raise InvalidSpecError(path, message) from error
    if value is None and not selector.optional:
        missing = f"{kind.name} {selector.name!r}" + (f" has no key {selector.key!r}" if body else " does not exist")
        raise InvalidSpecError(path, f"{missing}; create it, or set optional: true")
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

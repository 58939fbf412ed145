"""A watch cache of typed objects."""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from appfn.api.base import Json, Resource
from appfn.api.kinds import Key
from appfn.errors import InvalidSpecError
from appfn.kube.protocols import Cache, WatchEvent, WatchEventType

_logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Resource)


class TypedCache(Generic[R]):
    """A watch cache whose objects are parsed as they change; what can't be parsed is as if it were not there."""

    def __init__(
        self,
        type_: type[R],
        cache: Cache,
        *,
        changed: Callable[[Key, R | None, R | None], None],
        gone: Callable[[str], None],
    ) -> None:
        """`changed` gets key, object before and after; `gone` the uid of each object that was deleted."""
        self.objects: dict[Key, R] = {}
        self._type = type_
        self._changed = changed
        self._gone = gone
        self._uids: dict[Key, str] = {}
        for key, body in cache.items().items():
            self._set(key, body)
        self.close = cache.subscribe(self._on_event)

    def _on_event(self, event: WatchEvent) -> None:
        self._set(event.key, event.body if event.type is WatchEventType.SET else None)

    def _set(self, key: Key, body: Json | None) -> None:
        before = self.objects.pop(key, None)
        after = self._parse(key, body) if body is not None else None
        if after is not None:
            self.objects[key] = after
        self._changed(key, before, after)
        self._note_uid(key, body["metadata"]["uid"] if body is not None else "")

    def _note_uid(self, key: Key, uid: str) -> None:
        """Tell of an object that is gone, also where another one has its name by now."""
        known = self._uids.pop(key, uid)
        if uid:
            self._uids[key] = uid
        if known != uid:
            self._gone(known)

    def _parse(self, key: Key, body: Json) -> R | None:
        try:
            return self._type.parse(body)
        except InvalidSpecError as error:
            _logger.warning("object ignored", extra={"kind": self._type.__name__, "key": str(key), "path": error.path})
            return None

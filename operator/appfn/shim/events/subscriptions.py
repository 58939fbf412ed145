"""Which functions are executed by which events: an index that costs what changes, read without I/O."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from appfn.api.function import Function
from appfn.api.kinds import Key
from appfn.core.events import FUNCTIONS

_OWN = f"{FUNCTIONS}."


class Subscriptions:
    """See the module. The catalog tells it of every function that changes."""

    def __init__(self) -> None:
        self._subscribers: defaultdict[tuple[str, str], dict[Key, Function]] = defaultdict(dict)
        """By namespace and name of the event."""
        self._curious: Counter[str] = Counter()
        """How many functions of a namespace subscribe to events of functions."""

    def changed(self, key: Key, before: Function | None, after: Function | None) -> None:
        """Take in that a function is another one now, or came, or went."""
        if before is not None:
            self._forget(key, before)
        if after is not None and after.metadata.deletion_timestamp is None:
            for name in after.spec.events:
                self._subscribers[key.namespace, name][key] = after
            self._curious[key.namespace] += _is_curious(after)

    def _forget(self, key: Key, function: Function) -> None:
        if function.metadata.deletion_timestamp is not None:
            return  # done when that was set
        for name in function.spec.events:
            subscribers = self._subscribers[key.namespace, name]
            subscribers.pop(key, None)
            if not subscribers:
                del self._subscribers[key.namespace, name]
        self._curious[key.namespace] -= _is_curious(function)

    def matching(self, namespace: str, names: Iterable[str]) -> list[Function]:
        """Return the functions of a namespace that subscribe to any of an event's names, ordered by their own."""
        found: dict[Key, Function] = {}
        for name in names:
            found |= self._subscribers.get((namespace, name), {})
        return sorted(found.values(), key=lambda function: (function.display_name, function.metadata.name))

    def curious(self, namespace: str) -> bool:
        """Tell whether any function of a namespace subscribes to what happens to functions; asked for each call."""
        return self._curious.get(namespace, 0) > 0


def _is_curious(function: Function) -> bool:
    return any(name.startswith(_OWN) for name in function.spec.events)

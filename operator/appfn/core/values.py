"""Values that are made for each call, by the dozen: immutable, and several times cheaper to make than dataclasses."""

from typing import ClassVar

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False):
    """Say `frozen=True` in each that inherits. Changed by `msgspec.structs.replace`, into another one.

    Garbage collection leaves them alone (`gc=False`), which demands that nothing a value holds leads back to it: what
    is in such a circle would never be freed. Made after all it holds, it is in none unless something mutable gets hold
    of it.
    """

    hidden: ClassVar[frozenset[str]] = frozenset()
    """Fields that are not shown: payloads and secrets must not come into a log."""

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in self.hidden]
        return f"{type(self).__name__}({', '.join(shown)})"

"""Something that happened, whoever told us of it."""

import hashlib
import json
from dataclasses import dataclass, field

from appfn.shim.errors import invalid_argument
from appfn.shim.requests import is_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """An event, to be told to each function that subscribes to one of its names.

    Attributes:
        names: all of them; the first is the concrete one.
        id: its own, among those of its source.
        source: where it comes from. No function is executed twice by the same id of the same source.
        data: JSON.
        user_id: the user who caused it, who may read the executions; empty for nobody.
    """

    names: tuple[str, ...]
    id: str
    source: str
    data: str = field(repr=False)
    user_id: str = ""

    @property
    def key(self) -> str:
        """What tells it from all others of a project."""
        return hashlib.sha256(json.dumps([self.source, self.id]).encode()).hexdigest()

    @property
    def permissions(self) -> tuple[str, ...]:
        """Those of its executions."""
        return (f'read("user:{self.user_id}")',) if self.user_id else ()


def user_of(name: str, value: str) -> str:
    """Return the id of a user that a caller gave in the parameter `name`; empty for none.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    if value and not is_id(value):
        raise invalid_argument(name, "Value must be the id of a user: letters, digits, '.', '_' and '-'")
    return value

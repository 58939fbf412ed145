"""Statements that need no answers, run together."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias


class Statement(NamedTuple):
    """A statement in the words of the driver, with its parameters in order."""

    sql: str
    parameters: Sequence[tuple[Any, ...]] = ((),)
    """It is run once for each."""


Script: TypeAlias = Sequence[Statement]
"""What is run in its order, in one transaction."""

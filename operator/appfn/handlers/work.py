"""What the operator's queue holds."""

from dataclasses import dataclass
from typing import NamedTuple

from appfn.api.kinds import Key
from appfn.reconcile.registry import Controller


class Work(NamedTuple):
    """One object to reconcile."""

    controller: Controller
    key: Key

    def __str__(self) -> str:
        """Return `controller namespace/name`."""
        return f"{self.controller} {self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Objects to mark, all where nothing is narrowed."""

    namespace: str = ""
    """Those of one namespace."""
    runtime: str = ""
    """Functions of one Runtime and their Deployments."""
    gently: bool = False
    """Bit by bit, so that what changes meanwhile need not wait for thousands of others."""

    def __str__(self) -> str:
        """Return what it covers."""
        parts = {"namespace": self.namespace, "runtime": self.runtime}
        return " ".join(["sweep", *(f"{name} {value}" for name, value in parts.items() if value)])


EVERYTHING = Scope()
ROUND = Scope(gently=True)
"""Everything once more, now and then."""

Item = Work | Scope

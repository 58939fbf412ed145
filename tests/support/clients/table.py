"""The table of calls: what each must come to, and what came of it with a client."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from support.clients.drivers import CliDriver, ClientError, Driver, SdkDriver
from support.clients.released import Release

WHOLE = ("functions", "graphql")
"""Services of which every call must be in the table."""


@dataclass(slots=True, kw_only=True)
class World:
    """What the story of a client works on.

    Attributes:
        client: the one whose story it is.
        release: which that is.
        function: id of its function.
        code: a tarball of 12 MiB with a function in it, for the CLI the folder to pack.
        spare: likewise, small, and never activated.
        seen: what earlier calls brought, for later ones.
    """

    client: SdkDriver | CliDriver
    release: Release
    function: str
    code: Path
    spare: Path
    seen: dict[str, Any] = field(default_factory=dict)

    def call(self, call: str, /, **arguments: Any) -> Any:
        """Call a method of the client for the story's function."""
        return self.client.call(call, **({"functionId": self.function} | arguments))

    def field(self, document: dict[str, Any], *, old: str, new: str) -> Any:
        """Return a field whose name is not the same before 1.4 and now."""
        return document[old if self.release.old else new]

    def refusal(self, call: str, /, **arguments: Any) -> str:
        """Return the type of the error that a call raises."""
        try:
            answer = self.call(call, **arguments)
        except ClientError as error:
            return error.type
        raise AssertionError(f"{call} answered {answer}")


Play = Callable[[World], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row of the table.

    Attributes:
        call: `service.method`, as the newest client that has it spells it.
        play: does it, and sees that it did what it should.
        refused: the type of the error it must raise; empty where it must work.
        defects: why it can't work with some clients, by their slug: what these do wrong themselves.
    """

    call: str
    play: Play
    refused: str = ""
    defects: Mapping[str, str] = field(default_factory=dict)


class Steps:
    """Steps in the order in which they are played."""

    def __init__(self) -> None:
        self._all: list[Step] = []

    def __iter__(self) -> Iterator[Step]:
        return iter(self._all)

    def add(self, *calls: str, refused: str = "", **defects: str) -> Callable[[Play], Play]:
        """Declare what a call must come to; several where they differ in name alone.

        Args:
            calls: see `Step`.
            refused: see `Step`.
            defects: see `Step`; `_` stands for the slug's `-`.
        """
        known = {slug.replace("_", "-"): why for slug, why in defects.items()}

        def declare(play: Play) -> Play:
            self._all += [Step(call=call, play=play, refused=refused, defects=known) for call in calls]
            return play

        return declare


class Verdict(Enum):
    """Works, is refused as it should be, can't work for what the client does wrong, or none of these."""

    WORKS = "works"
    REFUSED = "refused"
    DEFECT = "defect"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one call; `why` says what went wrong where it is broken."""

    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of the calls that a client has.

    Attributes:
        outcomes: by call.
        untold: calls of the client that the table lacks.
    """

    outcomes: dict[str, Outcome]
    untold: list[str]

    @property
    def broken(self) -> dict[str, str]:
        """What must not be, by call."""
        return {call: outcome.why for call, outcome in self.outcomes.items() if outcome.verdict is Verdict.BROKEN}


def tell(steps: Sequence[Step], world: World) -> Report:
    """Play a client's story: every step for which the client has a call."""
    has = set(_calls_of(world.client))
    outcomes = {each.call: _outcome(each, world) for each in steps if each.call.lower() in has}
    told = {each.call.lower() for each in steps}
    untold = sorted(call for call in has if call.split(".")[0] in WHOLE and call not in told)
    return Report(outcomes=outcomes, untold=untold)


def _calls_of(client: Driver) -> Iterator[str]:
    """Yield the calls that a client has, in lower case: releases differ in that."""
    for service, methods in client.methods().items():
        yield from (f"{service}.{method}".lower() for method in methods)


def _outcome(each: Step, world: World) -> Outcome:
    try:
        each.play(world)
    except ClientError as error:
        if world.release.slug in each.defects:
            return Outcome(verdict=Verdict.DEFECT)
        if each.refused and error.type == each.refused:
            return Outcome(verdict=Verdict.REFUSED)
        return Outcome(verdict=Verdict.BROKEN, why=str(error))
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(verdict=Verdict.BROKEN, why=f"{type(error).__name__}: {error} ({where.name}: {where.line})")
    if each.refused or world.release.slug in each.defects:
        return Outcome(verdict=Verdict.BROKEN, why="an error was due")
    return Outcome(verdict=Verdict.WORKS)

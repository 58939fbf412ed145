"""docs/compatibility.md: the table of calls and clients, as text."""

from collections.abc import Mapping, Sequence

from support.clients.released import Release
from support.clients.table import Report, Step, Verdict

_HEAD = """\
# Compatibility with Appwrite's clients

Written by `tests/e2e/test_clients.py`. It installs these releases from npm and PyPI as their users do, and tells with
each the story of a function, against appfn on a cluster with real pods: the function is made, given variables, deployed
from a tarball of 12 MiB, built, called, and called in the background; its logs are read, lists are queried, and it is
deleted. A web SDK has no calls to make a function with: it calls one made with `kubectl`, as a user with a JWT, from a
page of another origin, and keeps to CORS as a browser does.

✓ works. ✗ does not, and the last column says why: most often it is refused, with an error of Appwrite's form and that
type. Blank: this client has no such call.
"""
_TAIL = """\
Every call of `functions` and `graphql` that a client has is in the table: the test looks into the installed client for
them. One call stands for each of the services that appfn does not have.
"""
_MARKS = {Verdict.WORKS: "✓", Verdict.REFUSED: "✗", Verdict.DEFECT: "✗", Verdict.BROKEN: "**broken**"}


def render(steps: Sequence[Step], reports: Mapping[Release, Report]) -> str:
    """Return the page: the same for the same outcomes."""
    titles = [release.title for release in reports]
    lines = [
        _HEAD,
        _row("Call", *titles, "Why not"),
        _row("---", *(":-:" for _ in titles), "---"),
        *_rows(steps, reports),
        "",
        _row("", *titles),
        _row("---", *("--:" for _ in titles)),
        *_totals(reports),
        "",
        _TAIL,
    ]
    return "\n".join(lines)


def _rows(steps: Sequence[Step], reports: Mapping[Release, Report]) -> list[str]:
    found = []
    for step in sorted(steps, key=lambda step: (bool(step.refused), not step.call.startswith("functions."))):
        outcomes = [report.outcomes.get(step.call) for report in reports.values()]
        marks = ["" if outcome is None else _MARKS[outcome.verdict] for outcome in outcomes]
        if any(marks):
            found.append(_row(f"`{step.call}`", *marks, _why_not(step, reports)))
    return found


def _why_not(step: Step, reports: Mapping[Release, Report]) -> str:
    titles = {release.slug: release.title for release in reports}
    refused = [f"`{step.refused}`"] if step.refused else []
    defects = [f"{titles[slug]} {why}" for slug, why in step.defects.items() if slug in titles]
    return "; ".join(refused + defects)


def _totals(reports: Mapping[Release, Report]) -> list[str]:
    def count(report: Report, *verdicts: Verdict) -> str:
        return str(sum(outcome.verdict in verdicts for outcome in report.outcomes.values()))

    return [
        _row("work", *(count(report, Verdict.WORKS) for report in reports.values())),
        _row("do not", *(count(report, Verdict.REFUSED, Verdict.DEFECT) for report in reports.values())),
    ]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"

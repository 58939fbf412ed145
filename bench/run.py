"""All benchmarks, or those that are named, one after the other.

make bench [BENCH="warm_c1 idle_5000"] [BENCH_FLAGS="--short --write-docs"]

Prints a table, writes results.json beside this file, and with --write-docs the table of docs/benchmarks.md.
"""

import argparse
import importlib
import importlib.util
import inspect
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.harness import ROOT, Context, Result, SkippedError

Row = dict[str, Any]
"""A figure as results.json holds it."""

BENCHMARKS = (
    "cold_pool_hit",
    "cold_pool_empty",
    "warm_c1",
    "warm_c32",
    "warm_c32_exclusive",
    "overload_c500",
    "neighbour_burst",
    "async_throughput",
    "build_no_deps",
    "idle_5000",
    "history_1m",
)
RESULTS = Path(__file__).parent / "results.json"
DOCS = ROOT / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"
_HEADINGS = ("benchmark", "unit", "value", "baseline", "ratio", "n", "spread", "goal", "")


def main(arguments: Sequence[str]) -> int:
    """Run; 1 where a benchmark failed (a goal that is missed is no failure)."""
    parser = argparse.ArgumentParser(prog="bench", description="Benchmarks of appfn.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all without one")
    parser.add_argument("--short", action="store_true", help="few samples: to see that they work, not for figures")
    parser.add_argument("--write-docs", action="store_true", help=f"rewrite the table in {DOCS.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    context = Context(short=options.short)
    measured: list[Row] = []
    failed = False
    for name in options.names or BENCHMARKS:
        found = _run(name, context)
        failed |= found is None
        measured += found or ()
        rows = _merged(measured, partial=bool(options.names))
        RESULTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    print("\n" + _plain(measured))
    if options.write_docs:
        _write_docs(json.loads(RESULTS.read_text()))
    return int(failed)


def _run(name: str, context: Context) -> Sequence[Row] | None:
    """Return a benchmark's rows, None where it failed."""
    if importlib.util.find_spec(f"bench.{name}") is None:
        print(f"{name}: skipped, it is not written yet", flush=True)
        return ()
    print(f"{name} …", flush=True)
    module = importlib.import_module(f"bench.{name}")
    begun = time.monotonic()
    try:
        rows = [_row(item) for item in _results(module, context)]
    except SkippedError as reason:
        print(f"{name}: skipped, {reason}", flush=True)
        return ()
    except Exception:  # noqa: BLE001 - the others are measured all the same
        traceback.print_exc()
        return None
    for row in rows:
        print("  " + " · ".join(filter(None, _cells(row))))
    print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return rows


def _results(module: ModuleType, context: Context) -> Sequence[Result | Row]:
    """Run a benchmark; one that stands by itself takes no context and returns rows."""
    if "context" in inspect.signature(module.run).parameters:
        found: Sequence[Result | Row] = module.run(context)
    else:
        found = module.run(deployments=context.few(module.DEPLOYMENTS, 2))
    return found


def _row(item: Result | Row) -> Row:
    columns = dict.fromkeys(("baseline", "against", "ratio", "n", "spread", "goal", "met"))
    return columns | (item.to_json() if isinstance(item, Result) else item)


def _merged(new: list[Row], *, partial: bool) -> list[Row]:
    """Return the rows for the file: those of earlier runs stay where only some benchmarks were run."""
    if not partial or not RESULTS.exists():
        return new
    names = {row["name"] for row in new}
    old = [row for row in json.loads(RESULTS.read_text()) if row["name"] not in names]
    return sorted([*old, *new], key=_position)


def _position(row: Row) -> int:
    first, _, _ = str(row["name"]).partition(" ")
    return BENCHMARKS.index(first) if first in BENCHMARKS else len(BENCHMARKS)


def _cells(row: Row) -> list[str]:
    verdicts: dict[bool | None, str] = {True: "met", False: "MISSED", None: ""}
    spread = " to ".join(map(_number, row["spread"] or ()))
    against = f" ({row['against']})" if row["against"] else ""
    baseline = "" if row["baseline"] is None else _number(row["baseline"]) + against
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
    texts = [row["name"], row["unit"], _number(row["value"]), baseline, ratio, row["n"], spread, row["goal"] or ""]
    return [*map(str, texts), verdicts[row["met"]]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"  # noqa: PLR2004 - four digits are enough


def _plain(rows: Sequence[Row]) -> str:
    table = [list(_HEADINGS), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
    )


def _write_docs(rows: Sequence[Row]) -> None:
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|" + " --- |" * len(_HEADINGS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    before, _, rest = DOCS.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    DOCS.write_text(f"{before}{_BEGIN}\n\n" + "\n".join(lines) + f"\n\n{_END}{after}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

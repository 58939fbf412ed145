"""All benchmarks, or those that are named, one after the other.

make bench [BENCH="warm_c1 idle_5000"] [BENCH_FLAGS="--short --write-docs"]

Prints a table, writes results.json beside this file, and with --write-docs the table of docs/benchmarks.md.
"""

import argparse
import importlib
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench.harness import ROOT, Benchmark, Context, Result, SkippedError

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
    results: list[Result] = []
    failed = False
    for name in options.names or BENCHMARKS:
        found = _run(name, context)
        failed |= found is None
        results += found or ()
    rows = _merged(results, partial=bool(options.names))
    RESULTS.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    print("\n" + _plain([item.to_json() for item in results]))
    if options.write_docs:
        _write_docs(rows)
    return int(failed)


def _run(name: str, context: Context) -> Sequence[Result] | None:
    """Return a benchmark's results, None where it failed."""
    if importlib.util.find_spec(f"bench.{name}") is None:
        print(f"{name}: skipped, it is not written yet", flush=True)
        return ()
    print(f"{name} …", flush=True)
    benchmark: Benchmark = importlib.import_module(f"bench.{name}")  # type: ignore[assignment]
    begun = time.monotonic()
    try:
        results = benchmark.run(context)
    except SkippedError as reason:
        print(f"{name}: skipped, {reason}", flush=True)
        return ()
    except Exception:  # noqa: BLE001 - the others are measured all the same
        traceback.print_exc()
        return None
    for row in results:
        print("  " + " · ".join(filter(None, _cells(row.to_json()))))
    print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return results


def _merged(results: Sequence[Result], *, partial: bool) -> list[dict[str, object]]:
    """Return the rows for the file: those of earlier runs stay where only some benchmarks were run."""
    new = [item.to_json() for item in results]
    if not partial or not RESULTS.exists():
        return new
    names = {row["name"] for row in new}
    old = [row for row in json.loads(RESULTS.read_text()) if row["name"] not in names]
    return sorted([*old, *new], key=_position)


def _position(row: dict[str, object]) -> int:
    name = str(row["name"])
    return next((place for place, known in enumerate(BENCHMARKS) if name.split(" ")[0] == known), len(BENCHMARKS))


def _cells(row: dict[str, object]) -> list[str]:
    met = {True: "met", False: "MISSED", None: ""}[row["met"]]  # type: ignore[index]
    spread = row["spread"]
    shown = "–".join(map(_number, spread)) if isinstance(spread, list) else ""
    baseline = f"{_number(row['baseline'])} ({row['against']})" if row["baseline"] is not None else ""
    ratio = f"{row['ratio']:.2f}" if isinstance(row["ratio"], float) else ""
    goal = str(row["goal"] or "")
    name, unit = str(row["name"]), str(row["unit"])
    return [name, unit, _number(row["value"]), baseline, ratio, str(row["n"]), shown, goal, met]


def _number(value: object) -> str:
    assert isinstance(value, float | int)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"  # noqa: PLR2004 - four digits are enough


def _plain(rows: Sequence[dict[str, object]]) -> str:
    table = [list(_HEADINGS), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
    )


def _write_docs(rows: Sequence[dict[str, object]]) -> None:
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|" + " --- |" * len(_HEADINGS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    before, _, rest = DOCS.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    DOCS.write_text(f"{before}{_BEGIN}\n\n" + "\n".join(lines) + f"\n\n{_END}{after}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

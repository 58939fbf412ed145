"""The metrics of several processes as one text for Prometheus."""

from collections import defaultdict
from collections.abc import Mapping

_LABEL = "process"


def merged(texts: Mapping[int, bytes]) -> bytes:
    """Return the texts of processes, by their index, as one: each family once, each sample labelled with its process.

    Samples are not added up: a sum would fall when one process does not answer, which is how a counter starts again.
    """
    families: defaultdict[str, list[str]] = defaultdict(list)
    comments: dict[str, None] = {}
    for index, text in texts.items():
        family = ""
        for line in text.decode().splitlines():
            if line.startswith("#"):  # "# HELP name …", then "# TYPE name …", then the samples
                family = line.split(" ", 3)[2]
                comments[line] = None
            elif line:
                families[family].append(_labelled(line, index))
    heads: defaultdict[str, list[str]] = defaultdict(list)
    for line in comments:
        heads[line.split(" ", 3)[2]].append(line)
    return "".join(f"{line}\n" for family in heads for line in (*heads[family], *families[family])).encode()


def _labelled(sample: str, index: int) -> str:
    """Return a sample with one label more; its name, without braces or spaces, comes first in the line."""
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f'{name}{{{_LABEL}="{index}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{{_LABEL}="{index}"}} {value}'

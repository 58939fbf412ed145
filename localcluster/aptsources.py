"""Which Debian mirrors this machine uses. Pure, but for reading apt's files."""

import re
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import ClusterError

_FIELD = re.compile(r"^([\w-]+):(.*(?:\n[ \t].*)*)", re.MULTILINE)
_OPTIONS = re.compile(r"\[[^]]*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place packages come from, and the suite taken from it."""

    uri: str
    suite: str


def read(apt: Path = Path("/etc/apt")) -> list[Source]:
    """Every enabled source of binary packages below ``apt``."""
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    found = [source for path in lists if path.exists() for source in parse_list(path.read_text())]
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        found += parse_deb822(path.read_text())
    return found


def parse_list(text: str) -> list[Source]:
    """The sources of a one-line-style file."""
    lines = (_OPTIONS.sub("", line.partition("#")[0]).split() for line in text.splitlines())
    return [Source(uri=words[1].rstrip("/"), suite=words[2]) for words in lines if len(words) > 2 and words[0] == "deb"]  # noqa: PLR2004 - type, URI, suite


def parse_deb822(text: str) -> list[Source]:
    """The sources of a deb822-style file."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found = []
    for stanza in re.split(r"\n\s*\n", lines):
        fields = {key.lower(): value.split() for key, value in _FIELD.findall(stanza)}
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            pairs = [(uri, suite) for uri in fields.get("uris", []) for suite in fields.get("suites", [])]
            found += [Source(uri=uri.rstrip("/"), suite=suite) for uri, suite in pairs]
    return found


def debian_mirror(sources: list[Source]) -> str:
    """The mirror of Debian itself among ``sources``. Raises ClusterError where there is none."""
    found = _first(sources, "/debian")
    if found is None:
        remedy = "name one in /etc/apt/sources.list.d, or let this machine pull images from a registry"
        raise ClusterError("none of apt's sources is a mirror of Debian", remedy=remedy)
    return found


def security_mirror(sources: list[Source]) -> str:
    """The mirror of Debian's security updates; where none is among ``sources``, beside Debian's, as mirrors have it."""
    return _first(sources, "/debian-security") or f"{debian_mirror(sources)}-security"


def _first(sources: list[Source], ending: str) -> str | None:
    uris = (source.uri for source in sources if source.uri.startswith("http"))
    return next((uri for uri in uris if uri.endswith(ending)), None)

"""Which web pages may use a project, pure: what Appwrite calls its web platforms."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urlsplit

_OWN_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_SCHEMES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Origins:
    """The origins that a project allows; pages of the user's own machine always may, as in Appwrite.

    Attributes:
        allowed: hosts, `*.example.com` for all below one, whole origins such as `https://example.com:8443`, or `*`.
    """

    allowed: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the origins of a list separated by commas or spaces; what names none never matches."""
        return cls(frozenset(text.lower().replace(",", " ").split()))

    def allow(self, origin: str) -> bool:
        """Tell whether a page of this origin, the value of the header, may use the project."""
        if "*" in self.allowed:
            return True
        parts = _split(origin.lower())
        if parts is None or not parts.hostname:
            return False
        host = parts.hostname
        parents = (f"*{host[at:]}" for at, letter in enumerate(host) if letter == ".")
        return host in _OWN_MACHINE or not self.allowed.isdisjoint({host, origin.lower(), *parents})


def _split(origin: str) -> SplitResult | None:
    """Return the parts of what is an origin and nothing more."""
    try:
        parts = urlsplit(origin)
        _ = parts.port
    except ValueError:
        return None
    bare = parts._replace(scheme="", netloc="").geturl() == "" and "@" not in parts.netloc
    return parts if bare and parts.scheme in _SCHEMES else None

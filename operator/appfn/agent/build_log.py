"""The part of a build's log that the agent itself writes: what it does, line by line, as it does it."""


class BuildLog:
    """Prints each line at once and keeps it for the stored log. No line may hold a credential or a variable."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Add a line."""
        print(line, flush=True)
        self.lines.append(line)

    def encode(self) -> bytes:
        """Return all lines so far."""
        return "".join(f"{line}\n" for line in self.lines).encode("utf-8", "backslashreplace")


def megabytes(size: int) -> str:
    """Return a size for people: `312 B`, `1.2 kB`, `1.2 MB`."""
    if size < 1000:  # noqa: PLR2004 - kB
        return f"{size} B"
    if size < 1_000_000:  # noqa: PLR2004 - MB
        return f"{size / 1000:.1f} kB"
    return f"{size / 1_000_000:.1f} MB"

"""How long to wait before the next try."""

from collections.abc import Callable


def full_jitter(failures: int, *, base: float, cap: float, random: Callable[[], float]) -> float:
    """Return random seconds between 0 and `base`, doubled per failure in a row after the first, up to `cap`.

    "Full jitter" spreads the retries of many callers that failed together better than a jitter around the mean does.
    `failures` counts from 1; `random` returns numbers in [0, 1).
    """
    doublings = min(failures - 1, 32)
    return random() * float(min(cap, base * 2**doublings))

"""Quantities as Kubernetes writes them, pure."""

import math
import re
from decimal import Decimal
from functools import lru_cache

from appfn.api.pods import ResourceRequirements

_QUANTITY = re.compile(r"([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,2})?([A-Za-z]*)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_UNITS = {unit: Decimal(1).scaleb(power) for unit, power in _DECIMAL.items()} | {
    f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)
}
_MEBIBYTE = 1024 * 1024


def amount(quantity: str) -> Decimal | None:
    """Return a quantity as a number; None where it is none."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None or found[3] not in _UNITS:
        return None
    return Decimal(found[1] + (found[2] or "")) * _UNITS[found[3]]


@lru_cache(maxsize=256)  # asked at the end of each execution
def mebibytes(quantity: str) -> int:
    """Return an amount of memory in whole MiB, rounded up; 0 where it is none."""
    found = amount(quantity)
    return 0 if found is None else math.ceil(found / _MEBIBYTE)


def memory_mb(resources: ResourceRequirements) -> int:
    """Return the memory a container may use in MiB: its limit, else what it is given for certain, else 0."""
    return mebibytes(resources.limits.get("memory") or resources.requests.get("memory") or "")

"""Whether an object still is what it was made to be."""

import re
from decimal import Decimal
from typing import Any

_AMOUNTS = frozenset({"requests", "limits"})
"""Fields whose values are quantities: the server writes `0.5` as `500m`."""
_QUANTITY = re.compile(r"([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]{1,2})?([A-Za-z]*)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_UNITS = {unit: Decimal(1).scaleb(power) for unit, power in _DECIMAL.items()} | {
    f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)
}


def contains(body: Any, manifest: Any) -> bool:
    """Tell whether an object that was read has all that the manifest says; what the server added does not count.

    The server leaves out empty values, so an empty value of the manifest is met by none.
    """
    if isinstance(manifest, dict):
        present = body if isinstance(body, dict) else {}
        return all(
            _amounts(present.get(key)) == _amounts(value) if key in _AMOUNTS else contains(present.get(key), value)
            for key, value in manifest.items()
        )
    if isinstance(manifest, list):
        found = body if isinstance(body, list) else []
        return len(found) == len(manifest) and all(map(contains, found, manifest))
    if manifest in ("", None):
        return body in ("", None)
    return bool(body == manifest)


def _amounts(quantities: Any) -> Any:
    """Return quantities as numbers; what cannot be read stays as it is."""
    return {name: _amount(str(value)) for name, value in (quantities or {}).items()}


def _amount(quantity: str) -> Decimal | str:
    found = _QUANTITY.fullmatch(quantity)
    if found is None or found[3] not in _UNITS:
        return quantity
    return Decimal(found[1] + (found[2] or "")) * _UNITS[found[3]]

"""Whether an object still is what it was made to be."""

from typing import Any

from appfn.core.quantity import amount

_AMOUNTS = frozenset({"requests", "limits"})
"""Fields whose values are quantities: the server writes `0.5` as `500m`."""


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
    texts = {name: str(value) for name, value in (quantities or {}).items()}
    return {name: text if (number := amount(text)) is None else number for name, text in texts.items()}

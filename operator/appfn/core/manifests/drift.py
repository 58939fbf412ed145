"""Whether an object still is what it was made to be."""

from typing import Any


def contains(body: Any, manifest: Any) -> bool:
    """Tell whether an object that was read has all that the manifest says; what the server added does not count.

    The server leaves out empty values, so an empty value of the manifest is met by none.
    """
    if isinstance(manifest, dict):
        present = body if isinstance(body, dict) else {}
        return all(contains(present.get(key), value) for key, value in manifest.items())
    if isinstance(manifest, list):
        found = body if isinstance(body, list) else []
        return len(found) == len(manifest) and all(map(contains, found, manifest))
    if manifest in ("", None):
        return body in ("", None)
    return bool(body == manifest)

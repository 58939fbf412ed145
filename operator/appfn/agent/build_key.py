"""The key under which a build is found again."""

import hashlib
import json


def build_key(salt: str, source_digest: str) -> str:
    """Return the sha256 (hex) of the canonical JSON of what decides a build's result.

    `salt` is that JSON without its `source` (see the operator, which computes the same key where it knows the source).
    """
    document = {**json.loads(salt), "source": source_digest}
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()

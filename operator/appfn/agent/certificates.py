"""Certificate authorities of the cluster's owner, trusted besides the system's."""

import ssl
from pathlib import Path

EXTRA_CA = Path("/etc/appfn-ca/ca-certificates.crt")


def ssl_context(extra: Path = EXTRA_CA) -> ssl.SSLContext:
    """Return a verifying context that also trusts the bundle `extra`, where there is one."""
    context = ssl.create_default_context()
    if extra.is_file():
        context.load_verify_locations(extra)
    return context


def merged_bundle(target: Path, extra: Path = EXTRA_CA) -> Path | None:
    """Write system bundle and `extra` into one file, for programs that take one only; None where there is no extra."""
    if not extra.is_file():
        return None
    system = ssl.get_default_verify_paths().cafile
    bundles = [Path(system)] if system and Path(system).is_file() else []
    target.write_bytes(b"\n".join(bundle.read_bytes() for bundle in [*bundles, extra]))
    return target

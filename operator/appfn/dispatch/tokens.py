"""Secrets of runtime pods, derived from the master key so that nobody has to remember one."""

import hashlib
import hmac

_RUNTIME_KEY_LENGTH = 32


def load_token(master_key: bytes, *, namespace: str, pod: str) -> str:
    """Return what the agent of that pod accepts a load with: 64 hex digits."""
    return _derive(master_key, f"load:{namespace}/{pod}")


def load_token_hash(token: str) -> str:
    """Return the sha256 (hex) of a load token: all that the pod itself is told of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def runtime_key(master_key: bytes, *, namespace: str, pod: str) -> str:
    """Return the challenge of the runtime server in that pod: 32 hex digits, the length Appwrite's executor uses."""
    return _derive(master_key, f"runtime:{namespace}/{pod}")[:_RUNTIME_KEY_LENGTH]


def announce_token(master_key: bytes, *, namespace: str, deployment: str, uid: str) -> str:
    """Return what pods made for that very Deployment announce themselves by, and nothing else: 64 hex digits.

    The code in these pods may read it: it is worth no more than the right to run that code.
    """
    return _derive(master_key, f"announce:{namespace}/{deployment}/{uid}")


def _derive(master_key: bytes, purpose: str) -> str:
    return hmac.new(master_key, purpose.encode(), hashlib.sha256).hexdigest()

"""Secrets of a runtime pod, derived from the master key so that nothing has to be stored."""

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


def _derive(master_key: bytes, purpose: str) -> str:
    return hmac.new(master_key, purpose.encode(), hashlib.sha256).hexdigest()

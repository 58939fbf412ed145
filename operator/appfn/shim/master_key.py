"""The key that runtime and load tokens are derived from: one Secret in the system namespace, made once."""

import base64
import binascii
from collections.abc import Callable
from typing import Protocol

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import SECRET, Key
from appfn.errors import ConfigError, ConflictError
from appfn.kube.protocols import Reader, Writer

KEY = "master"
LENGTH = 32
"""Bytes of a key we make, and the fewest we take."""


class SecretStore(Reader, Writer, Protocol):
    """What this asks of Kubernetes: get and create one Secret."""


async def ensure(cluster: SecretStore, namespace: str, *, random_bytes: Callable[[int], bytes]) -> bytes:
    """Return the key, making its Secret where there is none; two replicas that race end up with the same key.

    Raises:
        ConfigError: the Secret is there but holds no key.
    """
    address = Key(namespace, names.SECRET_MASTER_KEY)
    if (found := await cluster.get(SECRET, address)) is not None:
        return _key(found, address)
    try:
        return _key(await cluster.create(SECRET, _manifest(address, random_bytes(LENGTH))), address)
    except ConflictError:  # another replica was faster, or the namespace is going away
        found = await cluster.get(SECRET, address)
        if found is None:
            raise
        return _key(found, address)


async def read(cluster: Reader, namespace: str) -> bytes:
    """Return the key.

    Raises:
        ConfigError: there is none yet, or the Secret holds none.
    """
    address = Key(namespace, names.SECRET_MASTER_KEY)
    if (found := await cluster.get(SECRET, address)) is None:
        raise ConfigError(f"Secret {address} is not there: the shim makes it when it starts")
    return _key(found, address)


def _manifest(address: Key, key: bytes) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": address.name,
            "namespace": address.namespace,
            "labels": {names.MANAGED_BY: names.MANAGER},
        },
        "type": "Opaque",
        "data": {KEY: base64.b64encode(key).decode()},
    }


def _key(secret: Json, address: Key) -> bytes:
    try:
        key = base64.b64decode((secret.get("data") or {}).get(KEY, ""), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < LENGTH:
        raise ConfigError(
            f"Secret {address}: {KEY!r} must hold at least {LENGTH} random bytes; delete it to have it made"
        )
    return key

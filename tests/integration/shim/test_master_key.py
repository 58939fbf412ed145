"""The key everything in the pods is derived from: made once, whoever comes first."""

import asyncio
import secrets

import pytest

from appfn import names
from appfn.api.kinds import SECRET, Key
from appfn.errors import ConfigError
from appfn.kube.client import KubeCluster
from appfn.shim import master_key


async def test_replicas_that_race_end_up_with_one_key(cluster: KubeCluster, system: str) -> None:
    keys = await asyncio.gather(
        *(master_key.ensure(cluster, system, random_bytes=secrets.token_bytes) for _ in range(8)),
    )

    assert len(set(keys)) == 1
    assert len(keys[0]) == 32


async def test_a_key_stays_over_a_restart(cluster: KubeCluster, system: str) -> None:
    first = await master_key.ensure(cluster, system, random_bytes=secrets.token_bytes)

    assert await master_key.ensure(cluster, system, random_bytes=secrets.token_bytes) == first


@pytest.mark.parametrize("data", [{}, {"master": ""}, {"master": "c2hvcnQ="}])
async def test_a_secret_without_a_key_is_named(cluster: KubeCluster, system: str, data: dict[str, str]) -> None:
    metadata = {"name": names.SECRET_MASTER_KEY, "namespace": system}
    await cluster.create(SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})

    with pytest.raises(ConfigError, match=f"{system}/{names.SECRET_MASTER_KEY}"):
        await master_key.ensure(cluster, system, random_bytes=secrets.token_bytes)

    assert await cluster.delete(SECRET, Key(system, names.SECRET_MASTER_KEY))

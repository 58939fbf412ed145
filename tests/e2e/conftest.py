"""The whole system on real pods. `make e2e` gives the cluster: APPFN_E2E_KUBECONFIG and APPFN_E2E_KUBECTL."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcluster.install import build_config_maps
from support.appwrite import Appwrite
from support.e2e import deployment, function, make_key, new_project
from support.kubectl import Json, Kubectl
from support.shim import ShimDoor

SYSTEM = "appfn-system"


@pytest.fixture(scope="session")
def admin() -> Kubectl:
    """kubectl with all rights."""
    if "APPFN_E2E_KUBECONFIG" not in os.environ:
        pytest.fail("no cluster given: run `make e2e`")
    return Kubectl(
        program=os.environ["APPFN_E2E_KUBECTL"],
        kubeconfig=Path(os.environ["APPFN_E2E_KUBECONFIG"]),
    )


@pytest.fixture(scope="session")
def system(admin: Kubectl) -> Kubectl:
    return admin.within(SYSTEM)


@pytest.fixture(scope="session")
def project(admin: Kubectl) -> Iterator[Kubectl]:
    """A project of its own, made with the manifests users have."""
    with new_project(admin) as inside:
        inside.apply(*impatient(build_config_maps(inside.namespace)))
        yield inside


def impatient(config_maps: list[Json]) -> list[Json]:
    """Let package managers try a connection that stalls again soon, however patient this machine's settings are."""
    for config_map in config_maps:
        if config_map["metadata"]["name"] == "appfn-build-env":
            config_map["data"] |= {"PIP_DEFAULT_TIMEOUT": "15", "npm_config_fetch_timeout": "15000"}
    return config_maps


@pytest.fixture(scope="session")
def door(system: Kubectl) -> Iterator[ShimDoor]:
    """A way to the shim that survives a restart of the shim."""
    with contextlib.closing(ShimDoor(system)) as opened:
        yield opened


@pytest.fixture(scope="session")
def api(project: Kubectl, door: ShimDoor) -> Appwrite:
    """The API with a key that may execute and read executions."""
    key = make_key(project, "executions.write", "executions.read")
    return Appwrite(base=door.url, project=project.namespace, key=key)


@pytest.fixture(scope="session")
def deploy(project: Kubectl) -> Callable[..., Json]:
    """Apply a Function with one inline Deployment; wait until it is Ready unless told not to."""

    def apply(
        name: str, files: dict[str, str], *, runtime: str = "python-3.13", ready: bool = True, **spec: object
    ) -> Json:
        project.apply(function(name, runtime=runtime, **spec), deployment(name, {"inline": {"files": files}}))
        if not ready:
            return project.get("fn", name)
        return project.wait_condition("fn", name, "Ready=True", within=120)

    return apply

"""Every command of docs/auth.md works as pasted. The shim runs here, not in a pod: what runs `in` it runs beside it."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appfn import names
from appfn.api.kinds import NAMESPACE, Key
from appfn.kube.client import KubeCluster
from localcluster.controlplane import ControlPlane
from support.cluster import ROOT
from support.fake_invoker import FakeInvoker
from support.project import ProjectKit
from support.shim_server import ShimServer

BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs/auth.md").read_text(), flags=re.MULTILINE | re.DOTALL)
IN_SHIM = "kubectl -n appfn-system exec appfn-shim-0 -- python"
AGAIN = "curl -sf --retry 20 --retry-delay 1 --retry-all-errors"  # what was just written takes a moment to be seen


@pytest.fixture
async def demo(cluster: KubeCluster, runtime: str, shim: ShimServer) -> AsyncIterator[ProjectKit]:
    """The project and function of the examples."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "demo", "labels": {names.LABEL_PROJECT: "demo"}},
    }
    await cluster.apply(NAMESPACE, manifest, manager="tests")
    kit = ProjectKit(cluster, "demo", runtime)
    await kit.ready("greet")
    await shim.sees("demo", "greet")
    yield kit
    await cluster.delete(NAMESPACE, Key("", "demo"))


async def test_every_command_works_as_pasted(
    control_plane: ControlPlane, system: str, shim: ShimServer, demo: ProjectKit, invoker: FakeInvoker, tmp_path: Path
) -> None:
    script = "\n".join(BLOCKS).replace(IN_SHIM, f"{sys.executable}").replace("curl -sf", AGAIN)
    environ = {
        **os.environ,
        "KUBECONFIG": str(control_plane.kubeconfig),
        "PYTHONPATH": str(ROOT / "operator"),
        "APPFN_NAMESPACE": system,
        "SHIM": shim.base,
    }
    process = await asyncio.create_subprocess_exec(
        *("bash", "-eu", "-o", "pipefail", "-c", script),
        cwd=tmp_path,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()

    assert process.returncode == 0, said
    assert len(BLOCKS) == 7
    assert [invocation.payload for invocation in invoker.invocations] == ["Grace", "Ada", "Bob"]
    users = [invocation.variables["APPWRITE_FUNCTION_USER_ID"] for invocation in invoker.invocations]
    assert users == ["", "ada", ""]
    assert "access-control-allow-origin: https://app.example.com" in said.lower()
    assert "appfn-key-" in said

"""The API for appfn's own parts."""

import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appfn import names
from appfn.api.execution import ExecutionPhase
from appfn.api.kinds import NAMESPACE, Key
from appfn.config import Config
from appfn.errors import RejectedError
from appfn.kube.client import KubeCluster
from appfn.reconcile.shim_client import ShimClient, connect
from appfn.shim.services import STORE
from support.cluster import SERVICE_ACCOUNT, token_of
from support.fake_invoker import FakeInvoker
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import Reply, ShimServer, running_shim, shim_config

FORBIDDEN = (403, "internal_forbidden")
KEY = "b" * 64
CODE = b"code of a function"
DIGEST = f"sha256:{hashlib.sha256(CODE).hexdigest()}"


async def account(cluster: KubeCluster, namespace: str, name: str, *, audience: str = names.AUDIENCE) -> str:
    await cluster.apply(
        SERVICE_ACCOUNT,
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}},
        manager="tests",
    )
    return await token_of(cluster, Key(namespace, name), audience=audience)


@dataclass(frozen=True, slots=True)
class Peer:
    """One of appfn's own parts."""

    shim: ShimServer
    token: str

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        return await self.shim.call(
            method, f"/internal/v1/{path}", body, Authorization=f"Bearer {self.token}", **headers
        )


@pytest.fixture
async def operator(cluster: KubeCluster, shim: ShimServer, system: str) -> Peer:
    return Peer(shim, await account(cluster, system, "appfn-operator"))


@pytest.fixture
async def build(cluster: KubeCluster, shim: ShimServer, project: ProjectKit) -> Peer:
    return Peer(shim, await account(cluster, project.namespace, names.SERVICE_ACCOUNT_BUILD))


@pytest.fixture
async def trigger(cluster: KubeCluster, shim: ShimServer, project: ProjectKit) -> Peer:
    return Peer(shim, await account(cluster, project.namespace, names.SERVICE_ACCOUNT_TRIGGER))


@pytest.fixture
async def neighbour(cluster: KubeCluster, shim: ShimServer) -> AsyncIterator[Peer]:
    """The build pod of another project."""
    name = f"neighbour-{secrets.token_hex(4)}"
    await cluster.create(NAMESPACE, {"metadata": {"name": name, "labels": {names.LABEL_PROJECT: name}}})
    yield Peer(shim, await account(cluster, name, names.SERVICE_ACCOUNT_BUILD))
    await cluster.delete(NAMESPACE, Key("", name))


@pytest.fixture
async def shim_client(operator: Peer, tmp_path: Path) -> AsyncIterator[ShimClient]:
    """The operator's own client."""
    token = tmp_path / "token"
    token.write_text(operator.token)
    async with connect(operator.shim.base, token_path=token, clock=lambda: 0.0) as opened:
        yield opened


async def test_the_operators_client_stores_and_finds_artifacts_and_builds(
    shim_client: ShimClient, project: ProjectKit
) -> None:
    stored = await shim_client.put_artifact(project.namespace, CODE, digest=DIGEST)

    assert (stored.digest, stored.size) == (DIGEST, len(CODE))
    assert await shim_client.get_build(project.namespace, KEY) is None
    assert await shim_client.log_tail(project.namespace, DIGEST, lines=5) == CODE.decode()


async def test_the_operators_client_submits_an_execution_once(
    shim_client: ShimClient, project: ProjectKit, invoker: FakeInvoker
) -> None:
    request = {
        "namespace": project.namespace,
        "function": "hello",
        "uid": "c7d6a5b4-0000-4000-8000-000000000001",
        "data": "ping",
        "headers": {"a": "b"},
        "path": "/x",
        "method": "PUT",
    }

    first = await shim_client.submit(request)
    again = await shim_client.submit(request)

    assert first is not None
    assert again is not None
    assert first.id == again.id == request["uid"]

    async def ended() -> bool:
        found = await shim_client.execution(project.namespace, first.id)
        return found is not None and found.status is ExecutionPhase.COMPLETED

    await eventually(ended)
    found = await shim_client.execution(project.namespace, first.id)
    assert found is not None
    assert (found.status_code, found.stdout, found.deployment, found.attempt) == (200, "printed", "hello-v1", 1)
    assert found.start_time is not None
    assert found.completion_time is not None
    assert invoker.started == [first.id]
    assert await shim_client.submit(request | {"function": "nope", "uid": "other"}) is None
    assert await shim_client.execution(project.namespace, "nope") is None


async def test_a_submitted_execution_is_checked(shim_client: ShimClient, project: ProjectKit) -> None:
    request = {"namespace": project.namespace, "function": "hello", "uid": "u1", "headers": {"a b": "c"}}

    with pytest.raises(RejectedError, match="headers"):
        await shim_client.submit(request)


async def test_changes_are_followed_by_position(shim_client: ShimClient, client: Client, project: ProjectKit) -> None:
    start = await shim_client.changes(-1, wait=0)

    await client.execute()
    # A page may be empty: what other tests' functions leave behind is purged meanwhile, and that is a commit too.
    found, position = [], start.next
    for _ in range(10):
        page = await shim_client.changes(position, wait=10)
        assert page.next >= position
        found += [item for item in page.changes if item.namespace == project.namespace]
        position = page.next
        if found:
            break

    assert start.changes == []
    (change,) = found
    assert (change.namespace, change.function, change.phase) == (project.namespace, "hello", ExecutionPhase.COMPLETED)
    assert position > start.next


async def test_an_execution_is_replayed_once_per_uid_from_what_is_stored(
    operator: Peer, client: Client, project: ProjectKit, invoker: FakeInvoker, shim: ShimServer
) -> None:
    original = (await client.execute(body={"data": "x", "headers": {"x-a": "b"}})).body["$id"]
    asked = {"namespace": project.namespace, "function": "hello", "uid": "uid-1", "replayOf": original}

    first = await operator.call("POST", "executions", asked)
    done = await client.finished("uid-1")
    await shim.app[STORE].delete(project.namespace, invoker.invocations[0].function_uid, original)
    again = await operator.call("POST", "executions", asked)

    assert (first.status, first.body["status"], first.body["replayOf"]) == (202, "waiting", original)
    assert (again.status, again.body["status"]) == (202, "completed")
    assert done.body["status"] == "completed"
    assert [(made.payload, dict(made.headers)) for made in invoker.invocations] == [("x", {"x-a": "b"})] * 2


async def test_what_is_not_there_or_not_the_functions_cannot_be_replayed(
    operator: Peer, client: Client, project: ProjectKit, shim: ShimServer
) -> None:
    await project.ready("other")
    await shim.sees(project.namespace, "other")
    of_other = (await client.execute("other")).body["$id"]

    for original in ("nope", "a b", of_other):
        body = {"namespace": project.namespace, "function": "hello", "uid": "uid-1", "replayOf": original}
        reply = await operator.call("POST", "executions", body)
        assert reply.error == (400, "general_argument_invalid"), original
        assert "`replayOf`" in reply.body["message"]


async def test_a_summary_tells_counts_newest_executions_ticks_and_pods(
    shim_client: ShimClient, client: Client, project: ProjectKit, trigger: Peer
) -> None:
    uid = await project.function("hello", active="hello-v1")
    made = [(await client.execute()).body["$id"] for _ in range(4)]
    scheduled = (datetime.now(UTC) - timedelta(minutes=1)).replace(microsecond=0)
    await trigger.call("POST", "functions/hello/ticks", {"scheduledTime": scheduled.isoformat()})

    async def counted() -> bool:
        found = await shim_client.summary(
            project.namespace, "hello", uid=uid, completed=3, failed=1, ticks_since=scheduled - timedelta(hours=1)
        )
        return found is not None and found.counts.completed == 5

    await eventually(counted)
    found = await shim_client.summary(
        project.namespace, "hello", uid=uid, completed=4, failed=1, ticks_since=scheduled - timedelta(hours=1)
    )
    assert found is not None
    assert found.replicas == 2
    assert [item.id for item in found.recent][1:] == made[:0:-1]
    assert [tick.scheduled_at for tick in found.ticks] == [scheduled]
    assert await shim_client.summary(project.namespace, "nope", uid="", completed=3, failed=1, ticks_since=None) is None


async def test_a_tick_runs_once_however_often_it_is_asked_for(
    trigger: Peer, client: Client, invoker: FakeInvoker
) -> None:
    scheduled = datetime.now(UTC).replace(second=0, microsecond=0)
    as_utc = scheduled.isoformat().replace("+00:00", "Z")

    first = await trigger.call("POST", "functions/hello/ticks", {"scheduledTime": as_utc})
    again = await trigger.call("POST", "functions/hello/ticks", {"scheduledTime": scheduled.isoformat()})

    assert first.status == again.status == 202
    assert first.body == again.body
    done = await client.finished(first.body["id"])
    assert done.body["trigger"] == "schedule"
    (invocation,) = invoker.invocations
    assert invocation.payload == ""
    assert invocation.variables["APPWRITE_FUNCTION_TRIGGER"] == "schedule"
    assert len(invoker.started) == 1


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()


@pytest.mark.parametrize(
    "time", ["", "yesterday", "2030-01-01T00:00:00", pytest.param(TOMORROW, id="tomorrow"), 5, None]
)
async def test_a_tick_needs_a_time_that_has_come(trigger: Peer, time: object) -> None:
    reply = await trigger.call("POST", "functions/hello/ticks", {"scheduledTime": time})

    assert reply.error == (400, "general_argument_invalid")


async def test_a_build_pod_stores_and_reads_in_its_own_namespace(build: Peer, project: ProjectKit) -> None:
    stored = await build.call("PUT", f"artifacts/{project.namespace}", CODE)
    read = await build.call("GET", f"artifacts/{project.namespace}/{DIGEST}")
    tail = await build.call("GET", f"artifacts/{project.namespace}/{DIGEST}?tailLines=1")

    assert stored.status == 201
    assert stored.body == {"digest": DIGEST, "size": len(CODE)}
    assert read.body == CODE
    assert read.headers["Content-Length"] == str(len(CODE))
    assert tail.body == CODE


async def test_a_build_is_remembered_by_the_operator_alone(operator: Peer, build: Peer, project: ProjectKit) -> None:
    await build.call("PUT", f"artifacts/{project.namespace}", CODE)
    output = {"artifact": {"digest": DIGEST, "size": len(CODE)}, "log": None}
    path = f"builds/{project.namespace}/{KEY}"

    assert (await build.call("PUT", path, output)).error == FORBIDDEN
    assert (await build.call("GET", path)).error == (404, "internal_not_found")
    assert (await operator.call("PUT", path, output)).status == 200
    found = await build.call("GET", path)

    assert found.status == 200
    assert found.body["artifact"] == output["artifact"]


async def test_nobody_reaches_another_project_or_does_anothers_work(
    project: ProjectKit, operator: Peer, build: Peer, trigger: Peer, neighbour: Peer
) -> None:
    await build.call("PUT", f"artifacts/{project.namespace}", CODE)
    mine = project.namespace
    every = [
        ("PUT", f"artifacts/{mine}", CODE),
        ("GET", f"artifacts/{mine}/{DIGEST}", None),
        ("GET", f"artifacts/{mine}/{DIGEST}?tailLines=5", None),
        ("GET", f"builds/{mine}/{KEY}", None),
        ("PUT", f"builds/{mine}/{KEY}", {}),
        ("POST", "executions", {"namespace": mine, "function": "hello", "uid": "u"}),
        ("GET", f"executions/{mine}/u", None),
        ("GET", "changes", None),
        ("GET", f"functions/{mine}/hello/summary", None),
        ("POST", "functions/hello/ticks", {"scheduledTime": "2020-01-01T00:00:00Z"}),
    ]

    for method, path, body in every:
        assert (await neighbour.call(method, path, body)).error == FORBIDDEN, path
        nobody = Peer(operator.shim, "x.y.z")
        assert (await nobody.call(method, path, body)).error == (401, "internal_unauthenticated"), path
    for method, path, body in every[:9]:
        assert (await trigger.call(method, path, body)).error == FORBIDDEN, path
    for method, path, body in every[4:]:
        assert (await build.call(method, path, body)).error == FORBIDDEN, path
    assert (await operator.call(*every[9])).error == FORBIDDEN


async def test_a_token_for_kubernetes_itself_is_not_taken(cluster: KubeCluster, shim: ShimServer, system: str) -> None:
    peer = Peer(shim, await account(cluster, system, "appfn-operator", audience=""))

    assert (await peer.call("GET", "changes")).error == (401, "internal_unauthenticated")


@pytest.mark.parametrize(
    ("path", "headers", "error"),
    [
        ("artifacts/{namespace}", {"X_Appfn_Digest": "sha256:" + "0" * 64}, (422, "internal_digest_mismatch")),
        ("artifacts/{namespace}", {"X_Appfn_Digest": "md5:1"}, (400, "general_argument_invalid")),
        ("artifacts/nowhere", {}, (404, "internal_not_found")),
    ],
)
async def test_an_artifact_is_checked(
    operator: Peer, project: ProjectKit, path: str, headers: dict[str, str], error: tuple[int, str]
) -> None:
    reply = await operator.call("PUT", path.format(namespace=project.namespace), CODE, **headers)

    assert reply.error == error
    gone = await operator.call("GET", f"artifacts/{project.namespace}/{DIGEST}")
    assert gone.error == (404, "internal_not_found")


@pytest.mark.parametrize("digest", ["sha256:x", "..%2f..%2fetc", "%00"])
async def test_an_artifact_has_a_digest(operator: Peer, project: ProjectKit, digest: str) -> None:
    reply = await operator.call("GET", f"artifacts/{project.namespace}/{digest}")

    assert reply.error == (400, "general_argument_invalid")


async def test_an_artifact_over_the_limit_is_refused(
    cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory, system: str, project: ProjectKit
) -> None:
    config: Config = shim_config(tmp_path_factory.mktemp("small"), system, MAX_ARTIFACT_BYTES="1000")
    async with running_shim(cluster, config, FakeInvoker()) as shim:
        peer = Peer(shim, await account(cluster, system, "appfn-operator"))

        assert (await peer.call("PUT", f"artifacts/{project.namespace}", b"x" * 1000)).status == 201
        reply = await peer.call("PUT", f"artifacts/{project.namespace}", b"x" * 1001)

        assert reply.error == (413, "general_payload_too_large")


async def test_the_dispatcher_reads_artifacts_by_namespace(
    operator: Peer, project: ProjectKit, invoker: FakeInvoker
) -> None:
    await operator.call("PUT", f"artifacts/{project.namespace}", CODE)

    size, content = await invoker.artifacts.open(project.namespace, DIGEST)

    assert size == len(CODE)
    assert b"".join([piece async for piece in content]) == CODE

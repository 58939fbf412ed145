"""Limits, probes and what is written down."""

import asyncio
import gzip
import json
import logging

import pytest
from msgspec.structs import replace

from appfn.core.records import Invocation, Outcome, Times
from appfn.kube.client import KubeCluster
from appfn.shim.health import METRICS_PORT
from appfn.shim.services import WORKER
from appfn.telemetry import quiet_libraries
from support.fake_invoker import FakeInvoker, completed
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer, running_shim, shim_config

PATH = "/v1/functions/hello/executions"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"{", {}, id="broken"),
        pytest.param(b"[1]", {}, id="list"),
        pytest.param(b'"x"', {}, id="text"),
        pytest.param(b"\xff", {}, id="not-utf-8"),
        pytest.param(b"[" * 200_000, {}, id="deep"),
        pytest.param(b'{"data":' + b"9" * 5000 + b"}", {}, id="huge-number"),
        pytest.param(gzip.compress(b"{}"), {"Content_Encoding": "gzip"}, id="gzip"),
        pytest.param(b"{}", {"Content_Encoding": "br"}, id="brotli"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(client: Client, body: bytes, headers: dict[str, str]) -> None:
    reply = await client.call("POST", PATH, body, **headers)

    assert reply.error == (400, "general_argument_invalid")


async def test_a_body_over_the_limit_is_refused(
    cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory, system: str, project: ProjectKit
) -> None:
    config = shim_config(tmp_path_factory.mktemp("small"), system, MAX_PAYLOAD_BYTES="2000")
    async with running_shim(cluster, config, FakeInvoker()) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write"), response_format="1.8.0")

        assert (await client.execute(body={"body": "x" * 1900})).status == 201
        assert (await client.execute(body={"body": "x" * 2000})).error == (413, "general_payload_too_large")


async def test_bodies_that_together_are_too_large_are_refused_until_there_is_room(
    cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory, system: str, project: ProjectKit
) -> None:
    started, gate = asyncio.Semaphore(0), asyncio.Event()

    async def hold(_: Invocation) -> Outcome:
        started.release()
        await gate.wait()
        return completed("done")

    large, small = {"body": "x" * 100_000}, {"body": "x"}
    limits = {"MAX_PAYLOAD_BYTES": "150000", "MAX_BODIES_BYTES": "150000"}
    config = shim_config(tmp_path_factory.mktemp("full"), system, **limits)
    async with asyncio.timeout(20), running_shim(cluster, config, FakeInvoker(hold)) as shim:
        client = Client(shim, project.namespace, await project.key("executions.write"), response_format="1.8.0")
        held = asyncio.create_task(client.execute(body=large))
        await started.acquire()
        refused = await client.execute(body=large)
        beside = asyncio.create_task(client.execute(body=small))
        await started.acquire()
        gate.set()

        assert refused.error == (429, "general_rate_limit_exceeded")
        assert refused.headers["Retry-After"] == "1"
        assert [(await held).status, (await beside).status] == [201, 201]
        assert (await client.execute(body=large)).status == 201


async def test_a_bomb_is_not_unpacked(client: Client) -> None:
    bomb = gzip.compress(b" " * 50_000_000)

    reply = await client.call("POST", PATH, bomb, Content_Encoding="gzip")

    assert reply.error == (400, "general_argument_invalid")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/nothing"), ("DELETE", PATH), ("GET", "/"), ("PATCH", "/v1/functions")]
)
async def test_what_is_not_there_is_a_route_not_found(client: Client, method: str, path: str) -> None:
    reply = await client.call(method, path)

    assert reply.error == (404, "general_route_not_found")
    assert reply.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"


async def test_lone_surrogates_of_a_function_do_not_break_the_answer(client: Client, invoker: FakeInvoker) -> None:
    async def answer(_: Invocation) -> Outcome:
        return completed("a\ud800b")

    invoker.answer = answer

    assert (await client.execute()).body["response"] == "a?b"


async def test_a_bug_is_500_without_its_details(client: Client, invoker: FakeInvoker) -> None:
    async def answer(_: Invocation) -> Outcome:
        raise RuntimeError("secret detail")

    invoker.answer = answer

    reply = await client.execute()

    assert reply.error == (500, "general_server_error")
    assert "secret" not in str(reply.body)


async def test_the_log_has_ids_and_never_a_payload_or_a_key(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    quiet_libraries()

    await client.execute(body={"data": "p4yl0ad"}, X_Request_Id="my-id")
    await client.call("GET", f"{PATH}?search=s34rch", X_Request_Id="bad id")
    await client.call("BREW", "/c0ff33")

    lines = [vars(record) for record in caplog.records if record.name == "appfn.shim.access"]
    assert lines[0]["request_id"] == "my-id"
    assert lines[0]["route"] == "/v1/functions/{functionId}/executions"
    assert lines[0]["target"] == {"functionId": "hello"}
    assert lines[0]["status"] == 201
    assert lines[1]["request_id"] != "bad id"
    everything = json.dumps([vars(record) for record in caplog.records], default=str)
    for secret in ("p4yl0ad", "s34rch", "c0ff33", client.key, client.key.split("_")[2]):
        assert secret not in everything


async def test_the_log_tells_what_failed_and_leaves_what_went_well_to_the_metrics(
    client: Client, invoker: FakeInvoker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    await client.execute()
    await client.execute("nope")
    invoker.room = 0
    assert (await client.execute()).status == 429

    assert [vars(record)["status"] for record in caplog.records if record.name == "appfn.shim.access"] == [404]


async def test_the_breakdown_of_an_execution_is_a_header(client: Client, invoker: FakeInvoker) -> None:
    async def cold(_: Invocation) -> Outcome:
        times = Times(queue_ms=3, claim_ms=5, load_ms=7)
        return replace(completed("done"), cold_start=True, times=times)

    warm = await client.execute()
    queued = await client.execute(body={"async": True})
    invoker.answer = cold

    assert warm.headers["Server-Timing"].endswith("run;dur=125.000")
    assert "Server-Timing" not in queued.headers
    made = await client.execute()
    assert made.headers["Server-Timing"] == ("queue;dur=3, claim;dur=5, load;dur=7, boot;dur=0, run;dur=125.000, cold")
    assert (await client.execution(made.body["$id"])).headers["Server-Timing"] == made.headers["Server-Timing"]


async def test_probes_and_versions_answer_everybody(shim: ShimServer) -> None:
    assert (await shim.call("GET", "/healthz")).status == 200
    assert (await shim.call("GET", "/readyz")).status == 200
    assert (await shim.call("GET", "/v1/ping")).body == b"Pong!"
    version = await shim.call("GET", "/v1/health/version", X_Appwrite_Project="console")
    assert version.body["version"]


async def test_a_worker_that_stands_still_is_not_healthy(shim: ShimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim.app[WORKER], "monotonic", lambda: 10**9)

    assert (await shim.call("GET", "/healthz")).status == 503


async def metrics(shim: ShimServer) -> str:
    async with shim.session.get(f"http://127.0.0.1:{shim.app[METRICS_PORT]}/metrics") as response:
        assert response.status == 200
        return await response.text()


async def test_metrics_which_name_every_project_are_not_at_the_port_that_everybody_reaches(
    client: Client, shim: ShimServer
) -> None:
    await client.execute()

    reply = await shim.call("GET", "/metrics")

    assert reply.error == (404, "general_route_not_found")
    assert client.project in await metrics(shim)


async def test_metrics_count_what_happened(client: Client, shim: ShimServer) -> None:
    await client.execute()
    await client.call("PROPFIND", "/coffee")

    text = await metrics(shim)

    namespace = client.project
    assert f'appfn_executions_total{{namespace="{namespace}",reason="",status="completed",trigger="http"}} 1.0' in text
    assert f'appfn_queue_depth{{function="hello",namespace="{namespace}"}} 3.0' in text
    assert "appfn_dispatcher_pods_created_total 2.0" in text
    assert 'appfn_http_requests_total{method="OTHER",route="unmatched",status="404"} 1.0' in text
    assert "PROPFIND" not in text


async def test_a_client_that_goes_away_leaves_a_record(client: Client, invoker: FakeInvoker) -> None:
    gate = asyncio.Event()
    started = asyncio.Event()

    async def answer(_: Invocation) -> Outcome:
        started.set()
        await gate.wait()
        return completed("for nobody")

    invoker.answer = answer
    call = asyncio.create_task(client.execute())
    await started.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    gate.set()

    done = await client.finished(invoker.started[0])

    assert (done.body["status"], done.body["response"]) == ("completed", "for nobody")

"""One call in one pod: what a function, its runtime and its connection can do, and what becomes of it."""

import asyncio
import json

import pytest
from aiohttp import web

from appfn.api.execution import ExecutionPhase, Failure, FailureReason
from appfn.core.records import MAX_OUTPUT, Outcome
from support.dispatching import DIGEST, TARBALL, Project
from support.fake_node import FakeCall, Function, envelope
from support.polling import eventually


def failure_of(outcome: Outcome) -> Failure:
    assert outcome.phase is ExecutionPhase.FAILED
    assert outcome.status_code == 500
    assert outcome.response == ""
    assert outcome.failure is not None
    return outcome.failure


async def test_the_first_call_starts_a_pod_and_waits_for_it_and_the_second_finds_it(app: Project) -> None:
    cold, warm = await app.invoke("one"), await app.invoke("two")
    assert (cold.phase, cold.status_code, cold.response) == (ExecutionPhase.COMPLETED, 200, "one")
    assert cold.cold_start
    assert cold.times.claim_ms > 0
    assert cold.times.boot_ms == 2
    assert (warm.response, warm.cold_start) == ("two", False)
    assert (warm.times.claim_ms, warm.times.load_ms, warm.times.boot_ms) == (0, 0, 0)
    assert warm.duration > 0
    [pod] = app.node.seen
    assert len(pod.calls) == 2


async def test_a_pod_is_loaded_once_with_the_code_and_the_first_calls_variables(app: Project) -> None:
    await app.invoke("{}")
    [pod] = app.node.seen
    [load] = pod.loads
    assert pod.tarballs == [TARBALL]
    assert load == {"digest": DIGEST, "entrypoint": "index.js", "key": load["key"], "env": {"NAME": "Ada"}}
    assert pod.calls == [{"variables": {"NAME": "Ada"}, "payload": "{}", "headers": {}}]


async def test_variables_larger_than_a_header_reach_the_agent_whole(app: Project) -> None:
    app.variables = {f"V{number}": "x" * 8000 for number in range(40)}
    outcome = await app.invoke()
    assert outcome.phase is ExecutionPhase.COMPLETED
    assert app.node.seen[0].loads[0]["env"] == app.variables


async def test_the_start_is_marked_once_right_before_the_request_is_sent(app: Project) -> None:
    marks: list[int] = []

    async def mark() -> None:
        marks.append(sum(len(pod.calls) for pod in app.node.seen))

    await app.invoke()
    await app.invoke(on_start=mark)
    assert marks == [1]


async def test_a_call_whose_start_cannot_be_marked_is_not_sent_and_its_slot_is_free_again(app: Project) -> None:
    async def refuse() -> None:
        raise RuntimeError("the lease was lost")

    with pytest.raises(RuntimeError, match="lease"):
        await app.invoke("never", on_start=refuse)
    assert (await app.invoke("next")).response == "next"
    [pod] = app.node.seen
    assert [call["payload"] for call in pod.calls] == ["next"]


async def test_a_function_that_fails_keeps_its_pod(app: Project) -> None:
    async def throw(_: FakeCall) -> web.StreamResponse:
        return envelope("ignored", stdout="out", stderr="trace", status=500)

    app.node.function = throw
    outcomes = [await app.invoke(), await app.invoke()]
    assert failure_of(outcomes[1]).reason is FailureReason.FUNCTION_ERROR
    assert (outcomes[1].stdout, outcomes[1].stderr) == ("out", "trace")
    assert len(app.node.seen) == 1


async def test_a_call_over_its_timeout_ends_with_the_documented_words_and_its_pod_is_deleted(app: Project) -> None:
    async def hang(call: FakeCall) -> web.StreamResponse:
        await call.node.gates["never"].wait()
        return envelope()

    app.node.function = hang
    outcome = await app.invoke(timeout=1)
    assert failure_of(outcome).reason is FailureReason.TIMEOUT
    assert outcome.stderr == ("An internal curl error has occurred within the executor! Error Msg: Operation timed out")
    assert 1 <= outcome.duration < 3
    await app.pods(0)


async def test_calls_beside_one_that_timed_out_go_on_and_new_ones_get_another_pod(app: Project) -> None:
    async def obey(call: FakeCall) -> web.StreamResponse:
        if gate := call.body["payload"]:
            await call.node.gates[gate].wait()
        return envelope(call.pod.name)

    app.runtime = app.runtime_with(concurrency=4)
    app.node.function = obey
    beside, slow = app.call("beside", timeout=30), app.call("never", timeout=1)
    assert failure_of(await slow).reason is FailureReason.TIMEOUT
    [first] = app.node.pods
    assert (await app.invoke()).response != first
    assert first in app.node.pods
    app.node.gates["beside"].set()
    assert (await beside).response == first

    async def gone() -> bool:
        return first not in app.node.pods

    await eventually(gone)


async def test_a_response_of_two_megabytes_fails_with_the_limit_named_and_keeps_the_pod(app: Project) -> None:
    async def much(call: FakeCall) -> web.StreamResponse:
        return envelope("x" * (2 * MAX_OUTPUT if call.body["payload"] else 1), stdout="out")

    app.node.function = much
    outcome = await app.invoke("much")
    assert failure_of(outcome).reason is FailureReason.RESPONSE_TOO_LARGE
    assert "1,000,000 bytes" in outcome.stderr
    assert outcome.stdout == "out"
    assert (await app.invoke()).response == "x"
    assert len(app.node.seen) == 1


async def test_an_endless_response_is_cut_off_without_being_kept(app: Project) -> None:
    async def endless(call: FakeCall) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(call.request)
        while True:
            await response.write(b"x" * 1_000_000)

    app.node.function = endless
    assert failure_of(await app.invoke(timeout=30)).reason is FailureReason.RESPONSE_TOO_LARGE
    await app.pods(0)


async def drip(call: FakeCall) -> web.StreamResponse:
    """Promise more than ever comes."""
    call.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", close=False)
    await call.node.gates["never"].wait()
    return envelope()


async def drip_headers(call: FakeCall) -> web.StreamResponse:
    call.raw(b"HTTP/1.1 200 OK\r\nX-Slow: ", close=False)
    await call.node.gates["never"].wait()
    return envelope()


@pytest.mark.parametrize("function", [drip, drip_headers])
async def test_an_answer_that_never_ends_is_a_timeout(app: Project, function: Function) -> None:
    app.node.function = function
    assert failure_of(await app.invoke(timeout=1)).reason is FailureReason.TIMEOUT
    await app.pods(0)


async def half(call: FakeCall) -> web.StreamResponse:
    return call.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"response":')


async def half_chunk(call: FakeCall) -> web.StreamResponse:
    return call.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{")


async def nothing(call: FakeCall) -> web.StreamResponse:
    return call.raw(b"")


async def reset(call: FakeCall) -> web.StreamResponse:
    return call.reset()


@pytest.mark.parametrize("function", [half, half_chunk, nothing, reset])
async def test_a_connection_that_breaks_is_a_lost_pod_and_never_a_second_run(app: Project, function: Function) -> None:
    app.node.function = function
    failure = failure_of(await app.invoke())
    assert failure.reason is FailureReason.POD_LOST
    assert "whether the function finished is unknown" in failure.message
    assert sum(len(pod.calls) for pod in app.node.seen) == 1
    await app.pods(0)


@pytest.mark.parametrize(
    "content",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX-A\x00B: c\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_an_answer_that_is_not_http_is_an_invalid_response(app: Project, content: bytes) -> None:
    async def garbage(call: FakeCall) -> web.StreamResponse:
        return call.raw(content)

    app.node.function = garbage
    assert failure_of(await app.invoke()).reason is FailureReason.INVALID_RESPONSE
    await app.pods(0)


async def test_a_redirect_is_an_answer_and_is_not_followed(app: Project) -> None:
    async def redirect(call: FakeCall) -> web.StreamResponse:
        return web.json_response({"response": "moved"}, status=302, headers={"Location": "http://127.0.0.1:1/"})

    app.node.function = redirect
    outcome = await app.invoke()
    assert (outcome.phase, outcome.status_code, outcome.response) == (ExecutionPhase.COMPLETED, 302, "moved")


async def test_a_compressed_answer_is_not_unpacked(app: Project) -> None:
    async def compressed(call: FakeCall) -> web.StreamResponse:
        response = web.Response(body=json.dumps({"response": "x" * 5000}))
        response.enable_compression(web.ContentCoding.gzip)
        return response

    app.node.function = compressed
    assert failure_of(await app.invoke()).reason is FailureReason.INVALID_RESPONSE


async def test_a_pod_killed_in_mid_call_fails_the_call_with_what_the_kubelet_says(app: Project) -> None:
    async def hang(call: FakeCall) -> web.StreamResponse:
        await call.node.gates["never"].wait()
        return envelope()

    app.node.function = hang
    call = app.call()
    await app.running(1)
    await app.node.kill(app.node.seen[0], {"reason": "OOMKilled", "exitCode": 137})
    failure = failure_of(await call)
    assert failure.reason is FailureReason.POD_LOST
    assert "OOMKilled" in failure.message


async def test_a_pod_whose_object_vanishes_fails_its_call_though_the_connection_stands(app: Project) -> None:
    async def hang(call: FakeCall) -> web.StreamResponse:
        call.pod.cut_off = True
        await call.node.gates["never"].wait()
        return envelope()

    app.node.function = hang
    call = app.call(timeout=60)
    await app.running(1)
    [pod] = app.node.seen
    await app.delete(pod)
    assert failure_of(await call).reason is FailureReason.POD_LOST


async def test_a_pod_that_takes_no_connection_is_replaced_before_the_request_is_sent(app: Project) -> None:
    marks: list[str] = []

    async def mark() -> None:
        marks.append("begun")

    await app.invoke("first")
    [dead] = app.node.seen
    await app.node.stop_listening(dead)
    outcome = await app.invoke("second", on_start=mark)
    assert (outcome.response, outcome.cold_start) == ("second", True)
    assert marks == ["begun"]
    assert [call["payload"] for call in dead.calls] == ["first"]


async def test_a_client_that_leaves_does_not_free_its_slot_before_the_call_ends(app: Project) -> None:
    async def obey(call: FakeCall) -> web.StreamResponse:
        if gate := call.body["payload"]:
            await call.node.gates[gate].wait()
        return envelope()

    app.scaling = {"maxReplicas": 1}
    app.node.function = obey
    left = app.call("left")
    await app.running(1)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    waiting = app.call()
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    assert app.dispatcher.replicas(app.uid).in_flight == 1
    app.node.gates["left"].set()
    assert (await waiting).phase is ExecutionPhase.COMPLETED
    [pod] = app.node.seen
    assert pod.most_running == 1


async def test_a_client_that_leaves_the_queue_leaves_no_trace(app: Project) -> None:
    async def obey(call: FakeCall) -> web.StreamResponse:
        if gate := call.body["payload"]:
            await call.node.gates[gate].wait()
        return envelope()

    app.scaling = {"maxReplicas": 1}
    app.node.function = obey
    running = app.call("running")
    await app.running(1)
    leaving = app.call("never")
    await app.queued(1)
    leaving.cancel()
    await app.queued(0)
    app.node.gates["running"].set()
    await running
    assert (await app.invoke()).phase is ExecutionPhase.COMPLETED
    assert [call["payload"] for call in app.node.seen[0].calls] == ["running", ""]

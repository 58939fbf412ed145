"""Uploads of deployments: whole and in parts, broken off and resumed, at once, and by clients that lie."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from appfn.api.base import Json
from appfn.api.kinds import DEPLOYMENT, NAMESPACE, Key
from appfn.config import Config
from appfn.kube.client import KubeCluster
from appfn.shim.services import ARTIFACTS, CATALOG, SURROUNDINGS, UPLOADS
from support.fake_invoker import FakeInvoker
from support.polling import eventually
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import Reply, ShimServer, running_shim, shim_config
from support.uploading import CHUNK, Chunk, Uploader, chunks, form, tarball

SMALL = tarball(1000)
LARGE = tarball(12 * 1024 * 1024)
"""Three parts."""


@pytest.fixture
async def client(shim: ShimServer, project: ProjectKit) -> Client:
    """A holder of a key that may write functions, with an SDK of today."""
    key = await project.key("functions.read", "functions.write")
    return Client(shim, project.namespace, key, response_format="1.9.5")


@pytest.fixture
def upload(client: Client) -> Uploader:
    return Uploader(client)


async def made(project: ProjectKit) -> list[Json]:
    """Return the Deployments that the API has made."""
    found = await project.cluster.list(DEPLOYMENT, namespace=project.namespace)
    return [body for body in found if "artifact" in body["spec"]["source"]]


async def stored(shim: ShimServer, project: ProjectKit, deployment: Json) -> bytes:
    _, pieces = await shim.app[ARTIFACTS].open_artifact(
        project.namespace, deployment["spec"]["source"]["artifact"]["digest"]
    )
    return b"".join([piece async for piece in pieces])


async def test_a_small_tarball_becomes_a_deployment_in_one_request(
    upload: Uploader, shim: ShimServer, project: ProjectKit
) -> None:
    reply = await upload.whole(SMALL, entrypoint="src/main.py", commands="make")

    assert reply.status == 202
    [deployment] = await made(project)
    assert deployment["spec"]["id"] == reply.body["$id"]
    assert deployment["spec"]["entrypoint"] == "src/main.py"
    assert deployment["spec"]["commands"] == "make"
    assert deployment["spec"]["activate"] is True
    assert deployment["metadata"]["ownerReferences"][0]["kind"] == "Function"
    assert await stored(shim, project, deployment) == SMALL
    assert (reply.body["status"], reply.body["sourceSize"]) == ("waiting", len(SMALL))


@pytest.mark.parametrize("past_end", [False, True])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_large_tarball_comes_in_parts_at_once_in_both_dialects(
    upload: Uploader, shim: ShimServer, project: ProjectKit, *, past_end: bool, streamed: bool
) -> None:
    first, *others = chunks(LARGE, past_end=past_end)
    assert len(others) == 2
    begun = await upload.part(first)
    assert (begun.status, begun.body["chunksUploaded"], begun.body["chunksTotal"]) == (202, 1, 3)
    id_ = begun.body["$id"]

    async def send(chunk: Chunk) -> Reply:
        body = form(chunk.content, {"activate": "true", "entrypoint": "main.py"})
        return await upload.send(body, streamed=streamed, Content_Range=chunk.range, X_Appwrite_ID=id_)

    replies = await asyncio.gather(*map(send, others))

    assert {reply.status for reply in replies} == {202}
    assert {reply.body["$id"] for reply in replies} == {id_}
    assert max(reply.body["chunksUploaded"] for reply in replies) == 3
    [deployment] = await made(project)
    assert deployment["spec"]["id"] == id_
    assert await stored(shim, project, deployment) == LARGE


async def test_the_file_may_stand_first(upload: Uploader, project: ProjectKit) -> None:
    reply = await upload.send(form(SMALL, {"activate": "true", "entrypoint": "a.py"}, file_first=True))

    assert reply.status == 202
    assert (await made(project))[0]["spec"]["entrypoint"] == "a.py"


async def test_parts_come_in_any_order_and_again(upload: Uploader, shim: ShimServer, project: ProjectKit) -> None:
    first, second, last = chunks(LARGE)
    id_ = (await upload.part(last)).body["$id"]
    for chunk in (last, first, first):
        assert (await upload.part(chunk, id_)).status == 202
    done = await upload.part(second, id_)
    again = await upload.part(second, id_)

    assert done.body["chunksUploaded"] == again.body["chunksUploaded"] == 3
    assert again.body["$id"] == id_
    [deployment] = await made(project)
    assert await stored(shim, project, deployment) == LARGE


async def test_one_deployment_comes_of_last_parts_that_arrive_together(upload: Uploader, project: ProjectKit) -> None:
    *begin, last = chunks(LARGE)
    id_ = ""
    for chunk in begin:
        id_ = (await upload.part(chunk, id_)).body["$id"]

    replies = await asyncio.gather(*(upload.part(last, id_) for _ in range(6)))

    assert {reply.status for reply in replies} == {202}
    assert {reply.body["$id"] for reply in replies} == {id_}
    assert len(await made(project)) == 1


async def test_an_upload_goes_on_at_another_replica_after_a_restart(
    cluster: KubeCluster, config: Config, project: ProjectKit
) -> None:
    key = await project.key("functions.read", "functions.write")
    first, second, last = chunks(LARGE)

    async def at(stack: AsyncExitStack) -> Uploader:
        shim = await stack.enter_async_context(running_shim(cluster, config, FakeInvoker()))
        await shim.sees(project.namespace, "hello")
        return Uploader(Client(shim, project.namespace, key, response_format="1.9.5"))

    async with AsyncExitStack() as before:
        id_ = (await (await at(before)).part(first)).body["$id"]
    async with AsyncExitStack() as after:
        one, other = await at(after), await at(after)
        path = f"/v1/functions/hello/deployments/{id_}"
        waiting = await one.client.call("GET", path)
        assert (waiting.body["status"], waiting.body["chunksUploaded"]) == ("waiting", 1)
        await one.part(second, id_)
        done = await other.part(last, id_)
        assert done.body["chunksUploaded"] == 3
        assert (await one.client.call("GET", path)).status == 200
    [deployment] = await made(project)
    assert deployment["spec"]["source"]["artifact"]["digest"] == f"sha256:{hashlib.sha256(LARGE).hexdigest()}"


async def test_a_part_that_breaks_off_is_sent_again(upload: Uploader, shim: ShimServer, project: ProjectKit) -> None:
    first, second, last = chunks(LARGE)
    id_ = (await upload.part(first)).body["$id"]
    await upload.part(last, id_)
    await broken_off(upload, shim, second, id_)

    assert (await upload.part(second, id_)).body["chunksUploaded"] == 3
    [deployment] = await made(project)
    assert await stored(shim, project, deployment) == LARGE


async def broken_off(upload: Uploader, shim: ShimServer, chunk: Chunk, id_: str) -> None:
    """Send half of a part, then hang up."""
    host, port = shim.base.removeprefix("http://").split(":")
    body = form(chunk.content, {"activate": "true"})
    head = (
        f"POST /v1/functions/hello/deployments HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        f"X-Appwrite-Project: {upload.client.project}\r\nX-Appwrite-Key: {upload.client.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=xxBOUNDARYxx\r\nContent-Range: {chunk.range}\r\n"
        f"X-Appwrite-ID: {id_}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode() + body[: len(body) // 2])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    spool = Path(shim.app[SURROUNDINGS].config.shim.artifacts_url.removeprefix("file://")) / "spool"

    async def nothing_left() -> bool:
        return not await asyncio.to_thread(lambda: list(spool.iterdir()))

    await eventually(nothing_left)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (form(None, {"activate": "true"}), (400, "storage_file_empty")),
        (form(SMALL, {"activate": "true"}, filename=None), (400, "storage_file_empty")),
        (form(b"", {"activate": "true"}), (400, "storage_file_empty")),
        (form(SMALL, {"activate": "true"}, filename="code.zip"), (400, "storage_file_type_unsupported")),
        (form(b"PK\x03\x04zip", {"activate": "true"}), (400, "storage_file_type_unsupported")),
        (form(SMALL, {}), (400, "general_argument_invalid")),
        (form(SMALL, {"activate": "perhaps"}), (400, "general_argument_invalid")),
        (form(SMALL, {"activate": "true", "entrypoint": "../../etc/passwd"}), (400, "general_argument_invalid")),
        (form(SMALL, {"activate": "true", "commands": "x" * 8193}), (400, "general_argument_invalid")),
        (form(SMALL, {"activate": "true", "commands": "a\0b"}), (400, "general_argument_invalid")),
        (form(SMALL, {"activate": "true", "commands": "x" * 100_000}), (400, "general_argument_invalid")),
        (form(SMALL, {f"field{number}": "x" for number in range(20)}), (400, "general_argument_invalid")),
        (form(SMALL, {"activate": "true"})[:-20], (400, "general_argument_invalid")),
        (b"no form at all", (400, "general_argument_invalid")),
        (
            b"--xxBOUNDARYxx\r\nContent-Disposition: =;;\r\n\r\nx\r\n--xxBOUNDARYxx--\r\n",
            (400, "general_argument_invalid"),
        ),
        (b"--xxBOUNDARYxx\r\nX: " + b"y" * 70_000, (400, "general_argument_invalid")),
        (b"--xxBOUNDARYxx\r\n" + b"X: y\r\n" * 500, (400, "general_argument_invalid")),
        (b"--xxBOUNDARYxx\r\nContent-Type: multipart/mixed; boundary=z\r\n\r\n", (400, "general_argument_invalid")),
        (
            form(SMALL, {"activate": "true"}).replace(b'name="activate"', b'name="code"; filename="b.gz"'),
            (400, "general_argument_invalid"),
        ),
    ],
)
async def test_a_form_that_is_no_upload_is_refused(
    upload: Uploader, project: ProjectKit, body: bytes, error: tuple[int, str]
) -> None:
    assert (await upload.send(body)).error == error
    assert await made(project) == []


async def test_a_request_that_is_no_form_is_refused(upload: Uploader) -> None:
    reply = await upload.client.call("POST", "/v1/functions/hello/deployments", {"activate": True})

    assert reply.error == (400, "storage_file_empty")


async def test_a_path_in_the_files_name_leads_nowhere(upload: Uploader, tmp_path: Path, project: ProjectKit) -> None:
    reply = await upload.send(form(SMALL, {"activate": "true"}, filename="../../../escape.tar.gz"))

    assert reply.status == 202
    assert not await asyncio.to_thread(lambda: list(tmp_path.rglob("*escape*")))


@pytest.mark.parametrize(
    ("content", "range_", "error"),
    [
        (LARGE[:CHUNK], "bytes 0-5242879/99999999999", (400, "storage_invalid_file_size")),
        (LARGE[:CHUNK], "bytes 0-5242879", (400, "storage_invalid_content_range")),
        (LARGE[:100], f"bytes 0-5242879/{len(LARGE)}", (400, "storage_invalid_content_range")),
        (LARGE[: CHUNK + 1], f"bytes 0-5242879/{len(LARGE)}", (400, "storage_invalid_content_range")),
        (LARGE[:100], f"bytes 0-99/{len(LARGE)}", (400, "storage_invalid_content_range")),
        (LARGE[7 : CHUNK + 7], f"bytes 7-5242886/{len(LARGE)}", (400, "storage_invalid_content_range")),
        (b"x" * CHUNK, f"bytes 0-5242879/{len(LARGE)}", (400, "storage_file_type_unsupported")),
    ],
    ids=["huge", "no-size", "short", "long", "not-to-the-grid", "off-the-grid", "no-gzip"],
)
async def test_a_part_that_is_not_what_it_says_is_refused(
    upload: Uploader, project: ProjectKit, shim: ShimServer, content: bytes, range_: str, error: tuple[int, str]
) -> None:
    assert (await upload.part(Chunk(content, range_))).error == error
    assert await shim.app[UPLOADS].unfinished(project.namespace) == []


async def test_a_file_that_is_too_large_is_refused_before_it_is_read(upload: Uploader, config: Config) -> None:
    content = SMALL + b"\0" * config.shim.max_source_bytes

    assert (await upload.whole(content)).error == (400, "storage_invalid_file_size")


async def test_a_file_that_turns_out_too_large_is_refused(upload: Uploader, config: Config) -> None:
    body = form(SMALL + b"\0" * config.shim.max_source_bytes, {"activate": "true"})

    assert (await upload.send(body, streamed=True)).error == (400, "storage_invalid_file_size")


async def test_the_size_can_not_change_on_the_way(upload: Uploader) -> None:
    first, second, *_ = chunks(LARGE)
    id_ = (await upload.part(first)).body["$id"]

    reply = await upload.part(Chunk(second.content, f"bytes 5242880-10485759/{len(LARGE) + 1}"), id_)

    assert reply.error == (400, "storage_invalid_content_range")


async def test_an_upload_is_of_one_function_in_one_project(
    upload: Uploader, cluster: KubeCluster, shim: ShimServer, project: ProjectKit
) -> None:
    first, second, *_ = chunks(LARGE)
    id_ = (await upload.part(first)).body["$id"]
    await project.ready("other")
    await shim.sees(project.namespace, "other")

    assert (await Uploader(upload.client, "other").part(second, id_)).error == (404, "deployment_not_found")
    for path in (id_, "hello-v1"):
        reply = await upload.client.call("GET", f"/v1/functions/other/deployments/{path}")
        assert reply.error == (404, "deployment_not_found")

    async with another_project(cluster, shim, project.runtime) as foreign:
        key = await foreign.key("functions.read", "functions.write")
        thief = Client(shim, foreign.namespace, key, response_format="1.9.5")
        assert (await Uploader(thief).part(second, id_)).error == (404, "deployment_not_found")
        for method in ("GET", "DELETE"):
            reply = await thief.call(method, f"/v1/functions/hello/deployments/{id_}")
            assert reply.error == (404, "deployment_not_found")
    assert (await upload.part(second, id_)).body["chunksUploaded"] == 2


class another_project:  # noqa: N801 - reads as a function
    """A second project with a function `hello` of its own."""

    def __init__(self, cluster: KubeCluster, shim: ShimServer, runtime: str) -> None:
        self._cluster, self._shim, self._runtime = cluster, shim, runtime
        self._name = f"other-{secrets.token_hex(4)}"

    async def __aenter__(self) -> ProjectKit:
        labels = {"appfn.dev/project": self._name}
        await self._cluster.create(NAMESPACE, {"metadata": {"name": self._name, "labels": labels}})
        kit = ProjectKit(self._cluster, self._name, self._runtime)
        await kit.ready("hello")
        await self._shim.sees(self._name, "hello")
        return kit

    async def __aexit__(self, *_: object) -> None:
        await self._cluster.delete(NAMESPACE, Key("", self._name))


@pytest.mark.parametrize("id_", ["hello-v1", "0" * 20, "../../artifacts", "unique()", "x" * 200])
async def test_a_part_of_no_known_upload_is_refused(upload: Uploader, project: ProjectKit, id_: str) -> None:
    assert (await upload.part(chunks(LARGE)[1], id_)).error == (404, "deployment_not_found")
    assert await made(project) == []


async def test_uploads_that_nobody_finishes_are_bounded_and_expire(
    cluster: KubeCluster, tmp_path: Path, system: str, project: ProjectKit
) -> None:
    config = shim_config(tmp_path, system, MAX_UPLOADS="2", UPLOAD_HOURS="1")
    first = chunks(LARGE)[0]
    async with running_shim(cluster, config, FakeInvoker()) as shim:
        await shim.sees(project.namespace, "hello")
        key = await project.key("functions.write", "functions.read")
        upload = Uploader(Client(shim, project.namespace, key))
        ids = [(await upload.part(first)).body["$id"] for _ in range(2)]
        full = await upload.part(first)
        assert full.error == (429, "general_rate_limit_exceeded")
        assert "unfinished uploads" in full.body["message"]

        dropped = await upload.client.call("DELETE", f"/v1/functions/hello/deployments/{ids[0]}")
        assert dropped.status == 204
        assert (await upload.part(first)).status == 202

        uploads, now = shim.app[UPLOADS], shim.app[SURROUNDINGS].now()
        assert await uploads.expire(now - timedelta(hours=1)) == 0
        assert await uploads.expire(now + timedelta(hours=1)) == 2
        assert (await upload.part(chunks(LARGE)[1], ids[1])).error == (404, "deployment_not_found")


async def test_housekeeping_forgets_uploads_that_nobody_goes_on_with(
    cluster: KubeCluster, tmp_path: Path, system: str, config: Config, project: ProjectKit
) -> None:
    key = await project.key("functions.read", "functions.write")
    async with running_shim(cluster, config, FakeInvoker()) as shim:
        await shim.sees(project.namespace, "hello")
        id_ = (await Uploader(Client(shim, project.namespace, key)).part(chunks(LARGE)[0])).body["$id"]
        assert await shim.app[UPLOADS].find(project.namespace, id_) is not None
    async with running_shim(cluster, shim_config(tmp_path, system, UPLOAD_HOURS="0"), FakeInvoker()) as later:

        async def forgotten() -> bool:
            return await later.app[UPLOADS].find(project.namespace, id_) is None

        await eventually(forgotten)


async def test_an_upload_to_a_function_that_is_gone_does_not_reach_its_namesake(
    upload: Uploader, shim: ShimServer, project: ProjectKit
) -> None:
    first, second, *_ = chunks(LARGE)
    whole = (await upload.whole(SMALL)).body["$id"]
    id_ = (await upload.part(first)).body["$id"]
    await project.delete_function("hello")
    uid = await project.ready("hello")

    async def seen() -> bool:
        return any(callee.function.metadata.uid == uid for callee in shim.app[CATALOG].callees())

    await eventually(seen)

    assert (await upload.part(second, id_)).error == (404, "deployment_not_found")
    path = f"/v1/functions/hello/deployments/{whole}"
    assert (await upload.client.call("GET", path)).error == (404, "deployment_not_found")


async def test_bytes_of_unfinished_uploads_are_bounded(
    cluster: KubeCluster, tmp_path: Path, system: str, project: ProjectKit
) -> None:
    config = shim_config(tmp_path, system, MAX_UPLOADS_BYTES=str(len(LARGE) * 2 - 1))
    async with running_shim(cluster, config, FakeInvoker()) as shim:
        await shim.sees(project.namespace, "hello")
        upload = Uploader(Client(shim, project.namespace, await project.key("functions.write")))
        assert (await upload.part(chunks(LARGE)[0])).status == 202
        assert (await upload.part(chunks(LARGE)[0])).error == (429, "general_rate_limit_exceeded")


async def test_a_form_that_stalls_is_given_up(
    upload: Uploader, shim: ShimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appfn.shim.forms.IDLE_SECONDS", 0.2)
    ended = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield form(SMALL, {"activate": "true"})[:500]
        await ended.wait()

    headers = {"Content_Type": "multipart/form-data; boundary=xxBOUNDARYxx"}
    reply = await upload.client.call("POST", "/v1/functions/hello/deployments", slowly(), **headers)
    ended.set()

    assert reply.error == (400, "general_argument_invalid")
    assert "stalled" in reply.body["message"]


async def test_uploading_needs_the_right_to_write_functions(shim: ShimServer, project: ProjectKit) -> None:
    for key in ("", await project.key("functions.read", "executions.write")):
        reply = await Uploader(Client(shim, project.namespace, key)).whole(SMALL)
        assert reply.error == (401, "general_unauthorized_scope")
    assert await made(project) == []


async def test_an_sdk_before_1_0_is_answered_201_in_its_own_words(upload: Uploader) -> None:
    old = Uploader(Client(upload.client.shim, upload.client.project, upload.client.key, response_format="0.15.0"))

    reply = await old.whole(SMALL)

    assert reply.status == 201
    assert reply.body["status"] == "processing"
    assert (reply.body["size"], reply.body["buildStdout"], reply.body["buildStderr"]) == (len(SMALL), "", "")
    assert isinstance(reply.body["$createdAt"], int)

"""Every runtime of our own against the table of cases, and against what a table can't say."""

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from conformance.cases import ABSENT, ANYTHING, CASES, DOCS, ECHO, NODE, PYTHON, Case, programs
from conformance.runtimes import KEY, Language, LocalRuntime, Program
from support.polling import eventually


@pytest.fixture(params=list(Language))
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> LocalRuntime:
    return LocalRuntime(request.param, tmp_path / "appfn")


def matches(text: str, expected: str | re.Pattern[str]) -> bool:
    return text == expected if isinstance(expected, str) else bool(expected.search(text))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_runtime_does_as_the_table_says(runtime: LocalRuntime, case: Case) -> None:
    async with runtime.running(case.programs[runtime.language]) as endpoint:
        answer = await endpoint.call(case.payload, variables=case.variables, headers=case.headers)

    stdout, stderr = answer.envelope["stdout"], answer.envelope["stderr"]
    assert answer.status == case.status, stderr[:500]
    assert matches(stdout, case.stdout), stdout[:500]
    assert matches(stderr, case.stderr), stderr[:500]
    if case.response is ABSENT:
        assert "response" not in answer.envelope
    elif case.response is not ANYTHING:
        assert answer.envelope["response"] == case.response


async def test_function_of_the_docs_works_word_for_word(runtime: LocalRuntime) -> None:
    async with runtime.running(DOCS[runtime.language]) as endpoint:
        answer = await endpoint.call("", variables={"APPWRITE_FUNCTION_TRIGGER": "http"})
        other = await endpoint.call("p", variables={"APPWRITE_FUNCTION_TRIGGER": "event", "SECRET_KEY": "s"})

    response = answer.envelope["response"]
    assert 0 <= response.pop("randomNumber") < 1
    assert response == {
        "message": "Hello from Appwrite!",
        "payload": "No payload provided. Add custom data when executing function.",
        "secretKey": "SECRET_KEY variable not found. You can set it in Function settings.",
        "trigger": "http",
    }
    assert (other.envelope["response"]["payload"], other.envelope["response"]["secretKey"]) == ("p", "s")


@pytest.mark.parametrize("pooled", [True, False])
async def test_what_a_runtime_does_before_it_has_its_code_leaves_nothing_behind(
    runtime: LocalRuntime, *, pooled: bool
) -> None:
    async with runtime.waiting(pooled=pooled) as waiting:
        waiting.load(ECHO[runtime.language])
        answer = await waiting.endpoint.call("x")

    assert (answer.envelope["stdout"], answer.envelope["stderr"]) == ("", "")
    assert waiting.container_log() == ""


@pytest.mark.parametrize("pooled", [True, False])
async def test_call_before_the_code_waits_for_it(runtime: LocalRuntime, *, pooled: bool) -> None:
    async with runtime.waiting(pooled=pooled) as waiting:
        early = asyncio.create_task(waiting.endpoint.call("early"))
        done, _ = await asyncio.wait([early], timeout=0.1)
        assert not done
        waiting.load(ECHO[runtime.language])

        assert (await early).envelope["response"] == "early"


@pytest.mark.parametrize("key", ["", "wrong", "a-challengé"])
async def test_wrong_challenge_is_refused(runtime: LocalRuntime, key: str) -> None:
    async with runtime.running(ECHO[runtime.language]) as endpoint:
        answer = await endpoint.post({"payload": "x"}, key=key)

    assert (answer.status, answer.envelope) == (500, {"stderr": "Unauthorized"})


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b"null", b'"text"', b"[" * 200_000])
async def test_body_that_is_no_json_object_is_a_bad_request(runtime: LocalRuntime, body: bytes) -> None:
    async with runtime.running(ECHO[runtime.language]) as endpoint:
        answer = await endpoint.post(None, raw=body)
        after = await endpoint.call("still there")

    assert answer.status == 400
    assert "The request body is not" in answer.envelope["stderr"]
    assert after.envelope["response"] == "still there"


@pytest.mark.parametrize("body", [{}, {"variables": [], "headers": [], "payload": None}])
async def test_every_field_of_a_call_may_be_left_out(runtime: LocalRuntime, body: dict[str, Any]) -> None:
    sample = programs(
        node="module.exports = async (req, res) => res.json([req.variables, req.headers, req.payload]);",
        python="def main(req, res):\n    return res.json([req.variables, req.headers, req.payload])\n",
    )
    async with runtime.running(sample[runtime.language]) as endpoint:
        answer = await endpoint.post(body)

    assert answer.envelope["response"] == [{}, {}, ""]


async def test_body_over_the_limit_is_refused(runtime: LocalRuntime) -> None:
    async with runtime.running(ECHO[runtime.language]) as endpoint:
        try:
            status = (await endpoint.post(None, raw=b"x" * (33 << 20))).status
        except aiohttp.ClientOSError:  # refused while still sending
            status = 413
        after = await endpoint.call("still there")

    assert status == 413
    assert after.envelope["response"] == "still there"


INTERLEAVED = programs(
    node="""const wait = (ms) => new Promise((done) => setTimeout(done, ms));
module.exports = async (req, res) => {
  for (let i = 0; i < 20; i++) {
    console.log(`${req.payload} ${i}`);
    console.error(`${req.payload} ${i}`);
    await wait(i % 3);
  }
  res.send(req.payload);
};""",
    python="""import logging, sys, time
logging.basicConfig(format='%(message)s')
def main(req, res):
    for i in range(20):
        print(f'{req.payload} {i}')
        logging.warning('%s %d', req.payload, i)
        time.sleep(i % 3 / 1000)
    return res.send(req.payload)
""",
)


async def test_logs_of_concurrent_executions_never_mix(runtime: LocalRuntime) -> None:
    names = [f"execution-{number}" for number in range(40)]
    async with runtime.running(INTERLEAVED[runtime.language]) as endpoint:
        answers = await asyncio.gather(*(endpoint.call(name) for name in names))

    for name, answer in zip(names, answers, strict=True):
        expected = "\n".join(f"{name} {number}" for number in range(20))
        assert answer.envelope == {"response": name, "stdout": expected, "stderr": expected}


async def test_async_functions_of_python_run_at_once_and_keep_their_logs_apart(tmp_path: Path) -> None:
    runtime = LocalRuntime(PYTHON, tmp_path / "appfn")
    code = """import asyncio
gate = asyncio.Barrier(10)
async def main(req, res):
    print(req.payload, 'in')
    await gate.wait()
    await asyncio.to_thread(print, req.payload, 'out')
    return res.send(req.payload)
"""
    async with runtime.running(Program({"main.py": code}, "main.py")) as endpoint:
        answers = await asyncio.gather(*(endpoint.call(str(number)) for number in range(10)))

    assert [answer.envelope["stdout"] for answer in answers] == [f"{n} in\n{n} out" for n in range(10)]


async def test_pool_of_threads_that_outlives_an_execution_logs_to_each_by_turns(tmp_path: Path) -> None:
    code = """from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
def main(req, res):
    pool.submit(print, req.payload).result()
    return res.send('')
"""
    async with LocalRuntime(PYTHON, tmp_path / "appfn").running(Program({"main.py": code}, "main.py")) as endpoint:
        answers = [await endpoint.call(payload) for payload in ("first", "second")]

    assert [answer.envelope["stdout"] for answer in answers] == ["first", "second"]


@pytest.mark.parametrize(
    "files",
    [
        {"index.mjs": "export default async function (req, res) { res.send('esm'); }"},
        {
            "index.js": "import { text } from './other.js'; export default async (req, res) => res.send(text);",
            "other.js": "export const text = 'esm';",
            "package.json": '{"type": "module"}',
        },
        {"index.js": "exports.default = (req, res) => res.send('esm');"},
        {"index.js": "exports.__esModule = true; exports.default = async (req, res) => res.send('esm');"},
        {"index.mjs": "const text = await Promise.resolve('esm'); export default (req, res) => res.send(text);"},
        {
            "index.js": "const text = await Promise.resolve('esm'); export default (req, res) => res.send(text);",
            "package.json": '{"type": "module"}',
        },
        {
            "index.js": "const { text } = require('./other.mjs'); module.exports = (req, res) => res.send(text);",
            "other.mjs": "export const text = 'esm';",
        },
    ],
    ids=[
        "mjs",
        "type module",
        "exports.default",
        "transpiled",
        "mjs that awaits",
        "type module that awaits",
        "CommonJS that requires a module",
    ],
)
async def test_every_way_of_exporting_a_javascript_function_works(tmp_path: Path, files: dict[str, str]) -> None:
    async with LocalRuntime(NODE, tmp_path / "appfn").running(Program(files, next(iter(files)))) as endpoint:
        answer = await endpoint.call()

    assert answer.envelope["response"] == "esm"


@pytest.mark.parametrize("name", ["index.js", "index.cjs", "index.mjs"])
async def test_javascript_that_fails_to_load_is_run_once(tmp_path: Path, name: str) -> None:
    count = tmp_path / "count"
    run = f"process.getBuiltinModule('fs').appendFileSync('{count}', 'x'); throw new Error('no');"
    async with LocalRuntime(NODE, tmp_path / "appfn").running(Program({name: run}, name)) as endpoint:
        answer = await endpoint.call()

    assert answer.status == 500
    assert "Error: no" in answer.envelope["stderr"]
    assert name in answer.envelope["stderr"]
    assert "loader.cjs" not in answer.envelope["stderr"]
    assert count.read_text() == "x"


async def test_commonjs_that_requires_what_only_import_can_load_is_run_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    run = f"require('fs').appendFileSync('{count}', 'x'); require('./other.mjs');"
    program = Program({"index.js": run, "other.mjs": "export const text = await Promise.resolve('esm');"}, "index.js")
    async with LocalRuntime(NODE, tmp_path / "appfn").running(program) as endpoint:
        answer = await endpoint.call()

    assert answer.status == 500
    assert "ERR_REQUIRE" in answer.envelope["stderr"]
    assert count.read_text() == "x"


async def test_a_thrown_value_whose_stack_is_no_text_is_a_failed_load(tmp_path: Path) -> None:
    program = Program({"index.js": "throw { stack: 5 };"}, "index.js")
    async with LocalRuntime(NODE, tmp_path / "appfn").running(program) as endpoint:
        answer = await endpoint.call()

    assert (answer.status, answer.envelope["stderr"]) == (500, "5")


async def test_python_function_that_answers_nothing_says_so(tmp_path: Path) -> None:
    program = Program({"main.py": "def main(req, res):\n    pass\n"}, "main.py")
    async with LocalRuntime(PYTHON, tmp_path / "appfn").running(program) as endpoint:
        answer = await endpoint.call()

    assert answer.status == 500
    assert answer.envelope["stderr"].startswith("The function returned no answer")


async def test_second_answer_of_a_javascript_function_is_noted(tmp_path: Path) -> None:
    program = Program({"index.js": "module.exports = async (q, res) => { res.send('1'); res.send('2'); };"}, "index.js")
    async with LocalRuntime(NODE, tmp_path / "appfn").running(program) as endpoint:
        answer = await endpoint.call()

    assert answer.envelope["response"] == "1"
    assert "the first answer stands" in answer.envelope["stderr"]


async def test_error_of_one_execution_leaves_the_others_alone(runtime: LocalRuntime) -> None:
    sample = programs(
        node="""module.exports = async (req, res) => {
  if (req.payload === 'bad') { setTimeout(() => { throw new Error('bad'); }, 5); return; }
  await new Promise((done) => setTimeout(done, 50));
  res.send('good');
};""",
        python="""import time
def main(req, res):
    if req.payload == 'bad':
        raise SystemExit('bad')
    time.sleep(0.05)
    return res.send('good')
""",
    )
    async with runtime.running(sample[runtime.language]) as endpoint:
        answers = await asyncio.gather(*(endpoint.call(name) for name in ["good", "bad", "good"]))

    assert [answer.status for answer in answers] == [200, 500, 200]


async def test_response_without_body_keeps_the_connection_usable(runtime: LocalRuntime) -> None:
    sample = programs(
        node="module.exports = async (req, res) => res.send('', Number(req.payload));",
        python="def main(req, res):\n    return res.send('', int(req.payload))\n",
    )
    async with runtime.running(sample[runtime.language]) as endpoint:
        empty = await endpoint.call("204")
        after = await endpoint.call("200")

    assert (empty.status, empty.envelope) == (204, {})
    assert after.status == 200


async def test_process_that_ends_itself_breaks_the_connection(runtime: LocalRuntime) -> None:
    sample = programs(
        node="module.exports = async () => process.exit(3);",
        python="import os\ndef main(req, res):\n    os._exit(3)\n",
    )
    async with runtime.waiting() as waiting:
        waiting.load(sample[runtime.language])
        with pytest.raises(aiohttp.ClientConnectionError):
            await waiting.endpoint.call()

        assert waiting.process.wait(timeout=10) == 3


@pytest.mark.parametrize("loaded", [False, True])
async def test_sigterm_ends_an_idle_runtime_at_once(runtime: LocalRuntime, *, loaded: bool) -> None:
    async with runtime.waiting() as waiting:
        if loaded:
            waiting.load(ECHO[runtime.language])
            await waiting.endpoint.call("x")
        waiting.process.send_signal(signal.SIGTERM)

        assert waiting.process.wait(timeout=1) == 0


async def test_sigterm_lets_a_running_call_finish(runtime: LocalRuntime, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    sample = programs(
        node=f"""const fs = require('fs');
module.exports = async (req, res) => {{
  fs.writeFileSync('{begun}', '');
  while (!fs.existsSync('{go}')) await new Promise((done) => setTimeout(done, 5));
  res.send('finished');
}};""",
        python=f"""import pathlib, time
def main(req, res):
    pathlib.Path('{begun}').touch()
    while not pathlib.Path('{go}').exists():
        time.sleep(0.005)
    return res.send('finished')
""",
    )
    async with runtime.waiting() as waiting:
        waiting.load(sample[runtime.language])
        call = asyncio.create_task(waiting.endpoint.call())
        await eventually(lambda: exists(begun))
        waiting.process.send_signal(signal.SIGTERM)
        await eventually(lambda: pending_signal_is_handled(waiting.process.pid))
        go.touch()

        assert (await call).envelope["response"] == "finished"
        assert waiting.process.wait(timeout=5) == 0


async def test_a_dispatcher_that_takes_over_is_told_what_runs_though_its_caller_is_gone(
    runtime: LocalRuntime, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    sample = programs(
        node=f"""const fs = require('fs');
module.exports = async (req, res) => {{
  while (!fs.existsSync('{go}')) await new Promise((done) => setTimeout(done, 5));
  res.send('finished');
}};""",
        python=f"""import pathlib, time
def main(req, res):
    while not pathlib.Path('{go}').exists():
        time.sleep(0.005)
    return res.send('finished')
""",
    )

    async def running(key: str = KEY) -> int | None:
        url = f"{waiting.endpoint.url}appfn/running"
        async with waiting.endpoint.session.get(url, headers={"x-internal-challenge": key}) as response:
            answer = await response.json()
            return answer["running"] if response.status == 200 else None

    async with runtime.waiting() as waiting:
        waiting.load(sample[runtime.language])
        assert await running() == 0
        call = asyncio.create_task(waiting.endpoint.call())
        await eventually(lambda: is_(running, 1))
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await running() == 1
        assert await running("wrong") is None
        go.touch()
        await eventually(lambda: is_(running, 0))


async def is_(ask: Callable[[], Awaitable[int | None]], number: int) -> bool:
    return await ask() == number


async def exists(path: Path) -> bool:
    return path.exists()  # noqa: ASYNC240 - a probe's look


async def pending_signal_is_handled(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()  # noqa: ASYNC240 - a probe's look
    return all(int(mask, 16) == 0 for mask in re.findall(r"^(?:SigPnd|ShdPnd):\s*(\w+)$", status, re.MULTILINE))


async def test_output_after_the_answer_goes_to_the_containers_log(runtime: LocalRuntime) -> None:
    sample = programs(
        node="module.exports = async (req, res) => { res.send('x'); setTimeout(() => console.log('too late'), 20); };",
        python="""import threading
def main(req, res):
    threading.Timer(0.02, print, ('too late',)).start()
    return res.send('x')
""",
    )
    async with runtime.waiting() as waiting:
        waiting.load(sample[runtime.language])
        answer = await waiting.endpoint.call()
        await eventually(lambda: contains(waiting.container_log, "too late"))

    assert answer.envelope == {"response": "x", "stdout": "", "stderr": ""}


async def contains(read: Any, text: str) -> bool:
    return text in read()

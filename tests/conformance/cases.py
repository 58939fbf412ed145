"""The table: what every runtime has to do, with a function in each language that makes it do so."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.runtimes import Language, Program

NODE, PYTHON = Language.NODE, Language.PYTHON
ANYTHING = object()
"""Expectation that holds for any value."""
ABSENT = object()
"""Expectation that the envelope has no such key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One behaviour. `stdout` and `stderr` are texts to be equal to, or patterns to be found."""

    name: str
    programs: Mapping[Language, Program]
    payload: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    response: Any = ANYTHING
    stdout: str | re.Pattern[str] = ""
    stderr: str | re.Pattern[str] = ""


def programs(*, node: str, python: str) -> dict[Language, Program]:
    """Return functions of a single file."""
    return {NODE: Program({"index.js": node}, "index.js"), PYTHON: Program({"main.py": python}, "main.py")}


DOCS = programs(
    node="""
module.exports = async (req, res) => {
  const payload =
    req.payload ||
    'No payload provided. Add custom data when executing function.';

  const secretKey =
    req.variables.SECRET_KEY ||
    'SECRET_KEY variable not found. You can set it in Function settings.';

  const randomNumber = Math.random();

  const trigger = req.variables.APPWRITE_FUNCTION_TRIGGER;

  res.json({
    message: 'Hello from Appwrite!',
    payload,
    secretKey,
    randomNumber,
    trigger,
  });
};
""",
    python="""
import random

def main(req, res):
  payload = req.payload or 'No payload provided. Add custom data when executing function.'

  secretKey = req.variables.get(
    'SECRET_KEY',
    'SECRET_KEY variable not found. You can set it in Function settings.'
  )

  randomNumber = random.random()

  trigger = req.variables['APPWRITE_FUNCTION_TRIGGER']

  return res.json({
    'message': 'Hello from Appwrite!',
    'payload': payload,
    'secretKey': secretKey,
    'randomNumber': randomNumber,
    'trigger': trigger,
  })
""",
)
ECHO = programs(
    node="module.exports = (req, res) => res.send(req.payload);",
    python="def main(req, res):\n    return res.send(req.payload)\n",
)

CASES = [
    Case(
        name="send answers with a text",
        programs=ECHO,
        payload="plain",
        response="plain",
    ),
    Case(
        name="unicode survives both ways",
        programs=ECHO,
        payload='Grüße, 世界 👋 \u2028 \u0000 \\ "',
        response='Grüße, 世界 👋 \u2028 \u0000 \\ "',
    ),
    Case(name="a large payload comes back whole", programs=ECHO, payload="é" * 1_500_000, response="é" * 1_500_000),
    Case(
        name="json answers with the value itself, not with its text",
        programs=programs(
            node="module.exports = async (req, res) => res.json({a: [1, 'x', null, true], b: {}});",
            python="def main(req, res):\n    return res.json({'a': [1, 'x', None, True], 'b': {}})\n",
        ),
        response={"a": [1, "x", None, True], "b": {}},
    ),
    Case(
        name="json answers with an array",
        programs=programs(
            node="module.exports = async (req, res) => res.json([]);",
            python="def main(req, res):\n    return res.json([])\n",
        ),
        response=[],
    ),
    Case(
        name="send takes a status",
        programs=programs(
            node="module.exports = async (req, res) => res.send('made', 201);",
            python="def main(req, res):\n    return res.send('made', 201)\n",
        ),
        status=201,
        response="made",
    ),
    Case(
        name="json takes a status, an error's too",
        programs=programs(
            node="module.exports = async (req, res) => res.json({why: 'x'}, 503);",
            python="def main(req, res):\n    return res.json({'why': 'x'}, 503)\n",
        ),
        status=503,
        response={"why": "x"},
    ),
    Case(
        name="a status that HTTP hasn't is the function's error",
        programs=programs(
            node="module.exports = async (req, res) => res.send('x', 1000);",
            python="def main(req, res):\n    return res.send('x', 1000)\n",
        ),
        status=500,
        response=ABSENT,
        stderr=re.compile("the status must be an integer from 200 to 599, not 1000"),
    ),
    Case(
        name="variables and headers arrive",
        programs=programs(
            node="module.exports = async (req, res) => res.json([req.variables.A, req.headers['x-b']]);",
            python="def main(req, res):\n    return res.json([req.variables['A'], req.headers['x-b']])\n",
        ),
        variables={"A": "1 = ä"},
        headers={"x-b": "2"},
        response=["1 = ä", "2"],
    ),
    Case(
        name="the environment of the load is the process's",
        programs={
            NODE: Program(
                {"index.js": "const top = process.env.TOP; module.exports = async (req, res) => res.send(top);"},
                "index.js",
                {"TOP": "früh"},
            ),
            PYTHON: Program(
                {"main.py": "import os\nTOP = os.environ['TOP']\ndef main(req, res):\n    return res.send(TOP)\n"},
                "main.py",
                {"TOP": "früh"},
            ),
        },
        response="früh",
    ),
    Case(
        name="output and errors are kept apart",
        programs=programs(
            node="""module.exports = async (req, res) => {
  console.log('one', {a: 1}); console.info('two'); console.debug('three', [1, 2]);
  console.warn('four'); console.error('five', new Map([[1, 2]]));
  res.send('');
};""",
            python="""import sys
def main(req, res):
    print('one {"a":1}'); sys.stdout.write('two\\nthree [1,2]\\n')
    print('four', file=sys.stderr); sys.stderr.write('five Map(1) { 1 => 2 }\\n')
    return res.send('')
""",
        ),
        response="",
        stdout='one {"a":1}\ntwo\nthree [1,2]',
        stderr="four\nfive Map(1) { 1 => 2 }",
    ),
    Case(
        name="raw writes to the streams are output too",
        programs=programs(
            node="""module.exports = async (req, res) => {
  process.stdout.write('raw '); process.stdout.write(Buffer.from('bytes'));
  console.table; console.dir({deep: 1}); process.stderr.write('err', () => res.send('ok'));
};""",
            python="""import sys
def main(req, res):
    sys.stdout.write('raw '); sys.stdout.buffer.write(b'bytes'); print("{ deep: 1 }"); sys.stderr.write('err')
    return res.send('ok')
""",
        ),
        response="ok",
        stdout="raw bytes{ deep: 1 }",
        stderr="err",
    ),
    Case(
        name="logs of timers, threads and pools belong to their execution",
        programs=programs(
            node="""const wait = (ms) => new Promise((done) => setTimeout(done, ms));
module.exports = async (req, res) => {
  await wait(1); console.log('awaited');
  await new Promise((done) => setTimeout(() => { console.log('timer'); done(); }, 1));
  await Promise.all([wait(1).then(() => console.log('task'))]);
  res.send('');
};""",
            python="""import threading
from concurrent.futures import ThreadPoolExecutor
POOL = ThreadPoolExecutor(1)
def main(req, res):
    print('awaited')
    thread = threading.Thread(target=print, args=('timer',)); thread.start(); thread.join()
    POOL.submit(print, 'task').result()
    return res.send('')
""",
        ),
        stdout="awaited\ntimer\ntask",
    ),
    Case(
        name="long output is cut and says so",
        programs=programs(
            node="""module.exports = async (req, res) => {
  for (let i = 0; i < 30; i++) console.log('é'.repeat(50000));
  res.send('');
};""",
            python="""def main(req, res):
    for _ in range(30):
        print('é' * 50000)
    return res.send('')
""",
        ),
        stdout=re.compile(r"^[é\n]{400000,500000}\n\[the output is longer than 1000000 bytes and cut here\]$"),
    ),
    Case(
        name="an exception ends the execution with its trace and the output so far",
        programs=programs(
            node="module.exports = async (req, res) => { console.log('before'); throw new Error('broken'); };",
            python="def main(req, res):\n    print('before')\n    raise ValueError('broken')\n",
        ),
        status=500,
        response=ABSENT,
        stdout="before",
        stderr=re.compile(r"(?s)broken.*index\.js|main\.py.*broken"),
    ),
    Case(
        name="an exception outside of the function's own call is its own still",
        programs=programs(
            node="module.exports = (req, res) => { setTimeout(() => { throw new Error('later'); }, 1); };",
            python="async def main(req, res):\n    raise SystemExit('later')\n",
        ),
        status=500,
        response=ABSENT,
        stderr=re.compile("later"),
    ),
    Case(
        name="a rejection nobody catches ends the execution",
        programs=programs(
            node="module.exports = (req, res) => { Promise.reject(new Error('lost')); };",
            python="import sys\ndef main(req, res):\n    sys.exit('lost')\n",
        ),
        status=500,
        response=ABSENT,
        stderr=re.compile("lost"),
    ),
    Case(
        name="a value that JSON can't say is the function's error",
        programs=programs(
            node="module.exports = async (req, res) => { const a = {}; a.a = a; res.json(a); };",
            python="def main(req, res):\n    return res.json({'a': object()})\n",
        ),
        status=500,
        response=ABSENT,
        stderr=re.compile("circular|not JSON serializable"),
    ),
    Case(
        name="the value counts as it was when it was given",
        programs=programs(
            node="module.exports = async (req, res) => { const a = {n: 1}; res.json(a); a.n = 2; };",
            python="""def main(req, res):
    a = {'n': 1}
    answer = res.json(a)
    a['n'] = 2
    return answer
""",
        ),
        response={"n": 1},
    ),
    Case(
        name="an asynchronous function is awaited",
        programs=programs(
            node="module.exports = async (req, res) => { await null; res.send('later'); };",
            python="""import asyncio
async def main(req, res):
    await asyncio.sleep(0)
    print('in')
    return res.send('later')
""",
        ),
        response="later",
        stdout=re.compile("^(in)?$"),
    ),
    Case(
        name="an answer that is not returned counts all the same",
        programs=programs(
            node="module.exports = (req, res) => { setTimeout(() => res.send('callback'), 1); };",
            python="def main(req, res):\n    res.send('callback')\n",
        ),
        response="callback",
    ),
    Case(
        name="what is printed right after the answer is logged",
        programs=programs(
            node="module.exports = async (req, res) => { res.send('x'); console.log('after'); };",
            python="def main(req, res):\n    answer = res.send('x')\n    print('after')\n    return answer\n",
        ),
        response="x",
        stdout="after",
    ),
    Case(
        name="what loading prints shows in the first execution",
        programs=programs(
            node="console.log('loading'); module.exports = async (req, res) => res.send('x');",
            python="print('loading')\ndef main(req, res):\n    return res.send('x')\n",
        ),
        stdout="loading",
    ),
    Case(
        name="an entrypoint in a folder finds its neighbours, the top and its dependencies",
        programs={
            NODE: Program(
                {
                    "src/api/main.js": "const a = require('./near'), b = require('../../far'), c = require('dep');"
                    "module.exports = async (req, res) => res.send(a + b + c);",
                    "src/api/near.js": "module.exports = 'near';",
                    "far.js": "module.exports = 'far';",
                    "node_modules/dep/index.js": "module.exports = 'dep';",
                },
                "src/api/main.js",
            ),
            PYTHON: Program(
                {
                    "src/api/main.py": "import near, far, dep\nfrom .near import NEAR\n"
                    "def main(req, res):\n    return res.send(NEAR + far.FAR + dep.DEP)\n",
                    "src/api/near.py": "NEAR = 'near'\n",
                    "far.py": "FAR = 'far'\n",
                    ".appfn/site-packages/dep/__init__.py": "DEP = 'dep'\n",
                },
                "src/api/main.py",
            ),
        },
        response="nearfardep",
    ),
    Case(
        name="relative paths are those of the code",
        programs={
            NODE: Program(
                {
                    "index.js": "const fs = require('fs');"
                    "module.exports = async (req, res) => res.send(fs.readFileSync('data.txt', 'utf8'));",
                    "data.txt": "data",
                },
                "index.js",
            ),
            PYTHON: Program(
                {"main.py": "def main(q, res):\n    return res.send(open('data.txt').read())\n", "data.txt": "data"},
                "main.py",
            ),
        },
        response="data",
    ),
    Case(
        name="an unusual file name is no obstacle",
        programs={
            NODE: Program(
                {"my func.v2.cjs": "exports.default = async (req, res) => res.send('ok');"}, "my func.v2.cjs"
            ),
            PYTHON: Program({"my func.v2.py": "def main(req, res):\n    return res.send('ok')\n"}, "my func.v2.py"),
        },
        response="ok",
    ),
    Case(
        name="a dependency that is missing is named in every answer",
        programs=programs(
            node="require('no-such-module'); module.exports = async (req, res) => res.send('x');",
            python="import no_such_module\ndef main(req, res):\n    return res.send('x')\n",
        ),
        status=500,
        response=ABSENT,
        stderr=re.compile("no.such.module"),
    ),
    Case(
        name="a syntax error is shown with its place",
        programs=programs(node="module.exports = async (req, res => {", python="def main(req, res:\n"),
        status=500,
        response=ABSENT,
        stderr=re.compile(r"(?s)(index\.js|main\.py).*SyntaxError"),
    ),
    Case(
        name="an entrypoint that is missing is named",
        programs={
            NODE: Program({"index.js": ""}, "src/absent.js"),
            PYTHON: Program({"main.py": ""}, "src/absent.py"),
        },
        status=500,
        response=ABSENT,
        stderr=re.compile(r"^The entrypoint 'src/absent\.(js|py)' is not in the code\.$"),
    ),
    Case(
        name="an entrypoint outside of the code is refused",
        programs={
            NODE: Program({"index.js": ""}, "../outside.js"),
            PYTHON: Program({"main.py": ""}, "../outside.py"),
        },
        status=500,
        response=ABSENT,
        stderr=re.compile("is outside of the code"),
    ),
    Case(
        name="code without a function says what to write",
        programs=programs(node="exports.helper = 1;", python="helper = 1\n"),
        status=500,
        response=ABSENT,
        stderr=re.compile("exports no function|has no function 'main'"),
    ),
    Case(
        name="an entrypoint that isn't named is the language's usual one",
        programs={
            NODE: Program({"index.js": "module.exports = async (req, res) => res.send('usual');"}, ""),
            PYTHON: Program({"main.py": "def main(req, res):\n    return res.send('usual')\n"}, ""),
        },
        response="usual",
    ),
]

"""The samples are the functions of Appwrite's documentation, word for word."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from appfn.api.deployment import Deployment, InlineSource
from appfn.api.function import Function

Json = dict[str, Any]

NODE = """\
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
"""
PYTHON = """\
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
"""


def sample(documents: Callable[[str], list[Json]], language: str) -> tuple[Function, Deployment, InlineSource]:
    function, deployment = documents(f"manifests/samples/hello-{language}.yaml")
    parsed = Deployment.parse(deployment)
    assert parsed.spec.source.inline is not None
    return Function.parse(function), parsed, parsed.spec.source.inline


@pytest.mark.parametrize(
    ("language", "runtime", "entrypoint", "text"),
    [("node", "node-20.0", "index.js", NODE), ("python", "python-3.13", "main.py", PYTHON)],
)
def test_a_sample_is_word_for_word_that_of_the_documentation(
    documents: Callable[[str], list[Json]], language: str, runtime: str, entrypoint: str, text: str
) -> None:
    function, deployment, source = sample(documents, language)

    assert function.metadata.name == f"hello-{language}"
    assert function.spec.runtime == runtime
    assert deployment.metadata.name == f"hello-{language}-v1"
    assert deployment.spec.function_ref.name == function.metadata.name
    assert deployment.spec.entrypoint == entrypoint
    assert source.files[entrypoint] == text


def test_the_node_sample_has_one_pinned_dependency(documents: Callable[[str], list[Json]]) -> None:
    _, _, source = sample(documents, "node")

    (version,) = json.loads(source.files["package.json"])["dependencies"].values()
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)


def test_the_python_sample_has_one_pinned_dependency(documents: Callable[[str], list[Json]]) -> None:
    _, _, source = sample(documents, "python")

    assert re.fullmatch(r"[a-z]+==[\d.]+\n", source.files["requirements.txt"])

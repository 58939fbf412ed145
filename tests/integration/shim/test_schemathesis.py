"""Requests made of the OpenAPI document, good and bad: none is answered by an error of ours, none off the document."""

import asyncio
import copy
import time
from collections import Counter

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import EngineEvent, FatalError, NonFatalError, ScenarioFinished

from appfn.api.base import Json
from appfn.shim.auth.identity import Scope
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer

SECONDS = 60
"""How long bad requests are sent, however many are left."""
FEW, EXAMPLES = 3, 10
SEED = 5
_SHOWN = 2000
REACHED = {
    "GET /functions",
    "GET /functions/{functionId}",
    "PUT /functions/{functionId}",
    "GET /functions/{functionId}/variables",
    "GET /functions/{functionId}/variables/{variableId}",
    "GET /functions/runtimes",
    "POST /functions/{functionId}/executions",
    "GET /functions/{functionId}/executions",
    "GET /functions/{functionId}/executions/{executionId}",
    "GET /functions/{functionId}/deployments",
    "GET /functions/{functionId}/deployments/{deploymentId}",
    "GET /functions/usage",
}
"""Operations of which some requests must have succeeded: else none of them came past the first checks."""


def configured(base: str, headers: dict[str, str], *, thorough: bool) -> SchemathesisConfig:
    """Return how requests are made: a few good ones, or all sorts.

    Of the checks there are those that a server may pass which takes more than it must.
    """
    checks = "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "base-url": base,
            "headers": headers,
            "request-timeout": 20,
            "continue-on-failure": True,
            "generation": {
                "mode": "all" if thorough else "positive",
                "max-examples": EXAMPLES if thorough else FEW,
                "deterministic": True,
                "no-shrink": True,
                "database": "none",
            },
            "phases": {"stateful": {"enabled": False}, "coverage": {"enabled": thorough}},
            "checks": {"enabled": False} | {name: {"enabled": True} for name in checks},
        }
    )


def aimed(document: Json, ids: dict[str, str]) -> Json:
    """Return the document with paths that lead to what is there; bad requests still go elsewhere."""
    found = copy.deepcopy(document)
    for path, methods in found["paths"].items():
        for method, item in methods.items():
            function = "hello" if "/executions" in path else "doomed" if method == "delete" else "written"
            known = {"functionId": function, "deploymentId": f"{function}-v1", **ids}
            for parameter in item["parameters"]:
                if parameter["in"] == "path" and parameter["name"] in known:
                    parameter["schema"] = {"type": "string", "enum": [known[parameter["name"]]]}
    return found


class Findings:
    """What came of the requests."""

    def __init__(self) -> None:
        self.succeeded: Counter[str] = Counter()
        self.wrong: list[str] = []

    def take(self, event: EngineEvent) -> None:
        match event:
            case ScenarioFinished():
                label, recorder = event.recorder.label, event.recorder
                answers = [sent.response for sent in recorder.interactions.values() if sent.response is not None]
                self.succeeded[label] += sum(answer.status_code < 300 for answer in answers)
                nodes = [node for checked in recorder.checks.values() for node in checked if node.failure_info]
                self.wrong += [f"{label}: {node.failure_info}"[:_SHOWN] for node in nodes]
            case NonFatalError():
                self.wrong.append(f"{event.label}: {event.value!r}")
            case FatalError():
                self.wrong.append(repr(event.exception))
            case _:
                pass


def run(document: Json, config: SchemathesisConfig) -> Findings:
    """Send the requests."""
    findings, end = Findings(), time.monotonic() + SECONDS
    stream = from_schema(schemathesis.openapi.from_dict(document, config=config)).execute()
    for event in stream:
        findings.take(event)
        if time.monotonic() > end:
            findings.take(stream.finish())
            break
    return findings


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")  # of a request it finds long
@pytest.mark.timeout(SECONDS * 5)
async def test_no_request_is_answered_by_an_error_of_ours_or_off_the_document(
    shim: ShimServer, project: ProjectKit
) -> None:
    for name in ("written", "doomed"):
        await project.ready(name)
        await shim.sees(project.namespace, name)
    client = Client(shim, project.namespace, await project.key(*Scope))
    variable = await client.call("POST", "/v1/functions/written/variables", {"key": "A", "value": "x"})
    ids = {"executionId": (await client.execute()).body["$id"], "variableId": variable.body["$id"]}
    document = aimed((await shim.call("GET", "/v1/openapi.json")).body, ids)
    headers = {"X-Appwrite-Project": client.project, "X-Appwrite-Key": client.key}

    good = await asyncio.to_thread(run, document, configured(f"{shim.base}/v1", headers, thorough=False))
    rest = await asyncio.to_thread(run, document, configured(f"{shim.base}/v1", headers, thorough=True))

    assert good.wrong + rest.wrong == []
    assert {name for name in REACHED if not good.succeeded[name]} == set()

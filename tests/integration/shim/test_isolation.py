"""Nobody reaches another project's objects by any route: every operation there is, by every kind of caller."""

import gzip
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from appfn import names
from appfn.api.base import Json
from appfn.api.kinds import CONFIG_MAP, DEPLOYMENT, EXECUTION, FUNCTION, NAMESPACE, SECRET, Key, Kind
from appfn.kube.client import KubeCluster
from appfn.shim.auth import user_token
from appfn.shim.auth.identity import Scope, UserClaims
from appfn.shim.callee import Project
from appfn.shim.graphql.schema import field_name
from appfn.shim.rest.operation import In, Operation, Parameter, Type
from appfn.shim.rest.routes import BASE, operations
from appfn.shim.services import MASTER_KEY
from support.cluster import SERVICE_ACCOUNT, token_of
from support.fake_invoker import FakeInvoker
from support.oidc_issuer import AUDIENCE, OidcIssuer
from support.polling import eventually
from support.project import DIGEST, ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer, running_shim, shim_config

ROLE = Kind(group="rbac.authorization.k8s.io", version="v1", plural="roles", name="Role")
ROLE_BINDING = Kind(group="rbac.authorization.k8s.io", version="v1", plural="rolebindings", name="RoleBinding")
MARK = "marked-as-theirs"
"""In everything of the other project, and in nothing of ours."""
NEW = {("functions.create", "functionId"), ("functions.createVariable", "variableId")}
"""Ids that are given to something new: they may be taken elsewhere."""
OURS = "hello"
"""Our own function."""
_PLACE = re.compile(r"\{([^}:]+)(?::[^}]*)?\}")


@dataclass(frozen=True, slots=True)
class Call:
    """A request that should lead nowhere."""

    name: str
    method: str
    path: str
    body: Json
    files: bool
    public: bool
    """Guests may do it, so that the answer need not be a refusal."""
    names_theirs: bool
    """It names an object of the other project."""
    complete: bool
    """All that it names is there."""


@pytest.fixture
async def issuer() -> AsyncIterator[OidcIssuer]:
    async with OidcIssuer.running() as made:
        yield made


@pytest.fixture
async def shim(
    cluster: KubeCluster, tmp_path: Path, system: str, invoker: FakeInvoker, project: ProjectKit, issuer: OidcIssuer
) -> AsyncIterator[ShimServer]:
    config = shim_config(tmp_path, system, AUTH_CACHE_SECONDS="60", RATE_LIMIT="0", OIDC_TRUSTED=issuer.origin)
    async with running_shim(cluster, config, invoker) as server:
        yield server


@pytest.fixture
async def theirs(cluster: KubeCluster, runtime: str, shim: ShimServer) -> AsyncIterator[ProjectKit]:
    """Another project, with a function that has everything a function may have."""
    name = f"neighbour-{secrets.token_hex(4)}"
    await cluster.create(NAMESPACE, {"metadata": {"name": name, "labels": {names.LABEL_PROJECT: name}}})
    kit = ProjectKit(cluster, name, runtime)
    variables = [{"name": "MARKED", "value": MARK}]
    await kit.ready(MARK, displayName=MARK, variables=variables, events=["users.*"], execute=["users", "team:theirs"])
    await shim.sees(name, MARK)
    yield kit
    await cluster.delete(NAMESPACE, Key("", name))


@pytest.fixture
async def credentials(
    cluster: KubeCluster, shim: ShimServer, project: ProjectKit, issuer: OidcIssuer
) -> dict[str, dict[str, str]]:
    """Whatever may be had in our own project."""
    trusted = [{"issuer": issuer.url, "audience": AUDIENCE, "teamsClaim": "groups"}]
    await project.config_map(names.CONFIG_MAP_ISSUERS, {names.ISSUERS_FILE: yaml.safe_dump(trusted)})
    own = Project(project.namespace, project.namespace)
    ada = UserClaims(user_id="ada", verified=True, teams=("theirs",))
    key = user_token.signing_key(shim.app[MASTER_KEY], own)
    token = user_token.sign(ada, project=own, key=key, now=datetime.now(UTC))
    workload = {"Authorization": f"Bearer {await almighty(cluster, project.namespace)}"}
    client = Client(shim, project.namespace)

    async def effective() -> bool:
        return (await client.call("GET", "/v1/functions/hello/executions", **workload)).status == 200

    await eventually(effective)
    return {
        "key": {"X_Appwrite_Key": await project.key(*Scope)},
        "user": {"X_Appwrite_JWT": token},
        "bearer user": {"Authorization": f"Bearer {token}"},
        "oidc user": {"X_Appwrite_JWT": issuer.token(groups=["theirs"])},
        "workload": workload,
        "guest": {},
    }


async def almighty(cluster: KubeCluster, namespace: str) -> str:
    """Return the token of a ServiceAccount that may do everything in its namespace."""
    metadata: Json = {"name": "almighty", "namespace": namespace}
    await cluster.create(SERVICE_ACCOUNT, {"metadata": metadata})
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    await cluster.create(ROLE, {"metadata": metadata, "rules": rules})
    role = {"apiGroup": ROLE.group, "kind": "Role", "name": "almighty"}
    subject = {"kind": "ServiceAccount", **metadata}
    await cluster.create(ROLE_BINDING, {"metadata": metadata, "roleRef": role, "subjects": [subject]})
    return await token_of(cluster, Key(namespace, "almighty"), audience=names.AUDIENCE)


async def objects(owner: Client) -> dict[str, str]:
    """Return the ids of all that a project has, by the names of parameters."""
    execution = (await owner.execute(MARK, body={"data": MARK})).body["$id"]
    listed = await owner.call("GET", f"/v1/functions/{MARK}/variables")
    variable = listed.body["variables"][0]["$id"] if listed.status == 200 else MARK
    return {"functionId": MARK, "deploymentId": f"{MARK}-v1", "executionId": execution, "variableId": variable}


def calls(ids: dict[str, str], runtime: str) -> Iterator[Call]:
    """Return every operation by every path, with the given ids wherever one is asked for."""
    for operation in operations():
        for method, path in ((operation.method, operation.path), *operation.aliases):
            used = set(_PLACE.findall(path)) | {
                parameter.name
                for parameter in operation.parameters
                if parameter.required and (operation.name, parameter.name) not in NEW
            }
            filled = _PLACE.sub(lambda match: ids.get(match[1], MARK), path)
            yield Call(
                name=f"{operation.name} by {method} {path}",
                method=method,
                path=BASE + filled,
                body=_body(operation, ids, runtime),
                files=any(parameter.type is Type.FILE for parameter in operation.parameters),
                public=operation.access.guests,
                names_theirs=any(name in ids and ids[name] != OURS for name in used),
                complete=all(name in ids for name in _PLACE.findall(path)),
            )


def _body(operation: Operation, ids: dict[str, str], runtime: str) -> Json:
    """Return arguments that pass every check but the one for who asks."""
    return {
        parameter.name: "unique()" if (operation.name, parameter.name) in NEW else _argument(parameter, ids, runtime)
        for parameter in operation.parameters
        if parameter.where is In.BODY and (parameter.required or parameter.name in ids)
    }


def _argument(parameter: Parameter, ids: dict[str, str], runtime: str) -> Any:
    given: dict[str, Any] = {**ids, "runtime": runtime, "name": "ours", "key": "OURS", "value": "ours"}
    if parameter.name in given:
        return given[parameter.name]
    match parameter.type:
        case Type.INTEGER:
            return parameter.low or 0
        case Type.BOOLEAN:
            return False
        case Type.STRINGS:
            return []
        case Type.OBJECT:
            return {}
        case Type.STRING | Type.FILE:
            return parameter.choices[0] if parameter.choices else "ours"


async def send(shim: ShimServer, call: Call, project: str, headers: dict[str, str]) -> tuple[int, str]:
    """Return status and body of the answer."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()} | {"X-Appwrite-Project": project}
    content: dict[str, Any] = {"json": call.body} if call.method not in {"GET", "HEAD"} else {}
    if call.files:
        form = aiohttp.FormData()
        for name, value in call.body.items():
            form.add_field(name, str(value))
        form.add_field("code", gzip.compress(b"ours"), filename="code.tar.gz", content_type="application/gzip")
        content = {"data": form}
    async with shim.session.request(call.method, shim.base + call.path, headers=sent, **content) as response:
        return response.status, (await response.read()).decode(errors="replace")


async def contents(cluster: KubeCluster, namespace: str) -> dict[str, str]:
    """Return the version of everything there is in a namespace."""
    kinds = (FUNCTION, DEPLOYMENT, EXECUTION, SECRET, CONFIG_MAP)
    return {
        f"{kind.plural}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for kind in kinds
        for item in await cluster.list(kind, namespace=namespace)
        if item["metadata"]["name"] != "kube-root-ca.crt"  # of Kubernetes, which puts it there when it comes to it
    }


async def test_no_operation_reaches_another_project(
    cluster: KubeCluster,
    shim: ShimServer,
    project: ProjectKit,
    theirs: ProjectKit,
    credentials: dict[str, dict[str, str]],
    invoker: FakeInvoker,
) -> None:
    owner = Client(shim, theirs.namespace, await theirs.key(*Scope))
    ids = await objects(owner)
    ours, execution = ids | {"functionId": OURS}, ids["executionId"]
    before, wrong = await contents(cluster, theirs.namespace), []

    for who, headers in credentials.items():
        for call in calls(ids, project.runtime):  # by another project's credentials, in theirs
            status, body = await send(shim, call, theirs.namespace, headers)
            fits = status in {401, 403, 404} or (call.public and MARK not in body and status < 500)
            if not fits or execution in body:
                wrong.append((who, "theirs", call.name, status, body[:200]))
        for given in (ids, ours):  # in our project, by their ids
            for call in calls(given, project.runtime):
                if given is ours and not call.names_theirs:
                    continue
                status, body = await send(shim, call, project.namespace, headers)
                refused = 400 <= status < 500 or not call.names_theirs
                if not refused or status >= 500 or f'"{MARK}"' in body.replace(call.path, ""):
                    wrong.append((who, "ours", call.name, status, body[:200]))

    assert wrong == []
    assert await contents(cluster, theirs.namespace) == before
    assert [run.execution_id for run in invoker.invocations if run.namespace == theirs.namespace] == [execution]
    assert (await owner.execution(execution, MARK)).body["response"]
    assert (await owner.executions(function=MARK)).body["total"] == 1


async def test_graphql_reaches_no_further(
    cluster: KubeCluster,
    shim: ShimServer,
    project: ProjectKit,
    theirs: ProjectKit,
    credentials: dict[str, dict[str, str]],
) -> None:
    owner = Client(shim, theirs.namespace, await theirs.key(*Scope))
    ids = await objects(owner)
    before, wrong = await contents(cluster, theirs.namespace), []

    for who, headers in credentials.items():
        for place in (project.namespace, theirs.namespace):
            client = Client(shim, place)
            for name, query, names_theirs in queries(ids, project.runtime):
                reply = await client.call("POST", "/v1/graphql", {"query": query}, **headers)
                refused = reply.status == 401 or (
                    reply.body.get("errors") and not any((reply.body.get("data") or {}).values())
                )
                if not refused and (place == theirs.namespace or names_theirs):
                    wrong.append((who, place, name, reply.body))

    assert wrong == []
    assert await contents(cluster, theirs.namespace) == before
    found = [(await owner.call("POST", "/v1/graphql", {"query": query})).body for _, query, _ in reads(ids)]
    assert [answer for answer in found if "errors" in answer] == []


def queries(ids: dict[str, str], runtime: str) -> Iterator[tuple[str, str, bool]]:
    """Return every operation as a query, with the given ids, and whether it names one of theirs."""
    for operation in operations():
        if not operation.graphql or (operation.access.guests and operation.method == "GET"):  # the catalogue is public
            continue
        taken = [item for item in operation.parameters if item.required]
        given = {
            item.name: "unique()" if (operation.name, item.name) in NEW else _argument(item, ids, runtime)
            for item in taken
        }
        arguments = ", ".join(f"{name}: {json.dumps(value)}" for name, value in given.items())
        kind = "query" if operation.method == "GET" else "mutation"
        call = field_name(operation) + (f"({arguments})" if arguments else "")
        names_theirs = any(name in ids and value == ids[name] for name, value in given.items())
        yield operation.name, f"{kind} {{ {call} {{ __typename }} }}", names_theirs


def reads(ids: dict[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Return the queries of what its owner has."""
    known = {"functions.get", "functions.getExecution", "functions.getDeployment", "functions.getVariable"}
    return (found for found in queries(ids, "") if found[0] in known)


async def test_the_owner_reaches_by_the_same_requests_what_others_do_not(shim: ShimServer, theirs: ProjectKit) -> None:
    owner = Client(shim, theirs.namespace, await theirs.key(*Scope))
    ids = await objects(owner)

    reached = {
        call.name: (await send(shim, call, theirs.namespace, {"X_Appwrite_Key": owner.key}))[0]
        for call in calls(ids, theirs.runtime)
        if call.method == "GET" and call.complete and "download" not in call.path  # there is no code to be had
    }

    assert {name: status for name, status in reached.items() if status != 200} == {}
    assert reached


async def test_no_internal_route_is_for_callers_of_the_public_api(
    shim: ShimServer, theirs: ProjectKit, credentials: dict[str, dict[str, str]], cluster: KubeCluster
) -> None:
    places = {"namespace": theirs.namespace, "digest": DIGEST, "key": "b" * 64}
    internal = [
        (route.method, _PLACE.sub(lambda match: places.get(match[1], MARK), route.resource.canonical))
        for route in shim.app.router.routes()
        if route.resource is not None and not route.resource.canonical.startswith((f"{BASE}/", "/healthz", "/readyz"))
    ]
    before, wrong = await contents(cluster, theirs.namespace), []

    for who, headers in credentials.items():
        for method, path in internal:
            sent = headers if "Authorization" in headers else {**headers, "Authorization": "Bearer e30.e30.e30"}
            reply = await shim.call(method, path, {} if method != "GET" else None, **sent)
            if reply.status not in {401, 403, 404}:
                wrong.append((who, method, path, reply.status))

    assert len(internal) > 10
    assert wrong == []
    assert await contents(cluster, theirs.namespace) == before

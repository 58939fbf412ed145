"""Users of a project: by tokens that the project's command or a function's own call gave out."""

import asyncio
import json
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appfn.core.records import Invocation, Outcome
from appfn.shim.auth import user_token
from appfn.shim.auth.identity import UserClaims
from appfn.shim.callee import Project
from appfn.shim.services import MASTER_KEY
from localcluster.controlplane import ControlPlane
from support.fake_invoker import FakeInvoker, completed
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer

INVALID = (401, "user_jwt_invalid")
ADA = UserClaims(user_id="ada", verified=True, teams=("staff/owner",), memberships=("m1",))


def token(shim: ShimServer, project: str, claims: UserClaims = ADA, *, ago: float = 0) -> str:
    owner = Project(project, project)
    key = user_token.signing_key(shim.app[MASTER_KEY], owner)
    return user_token.sign(claims, project=owner, key=key, now=datetime.now(UTC) - timedelta(seconds=ago))


@pytest.fixture
async def members(project: ProjectKit, shim: ShimServer) -> str:
    """A function for users."""
    await project.ready("members", execute=["users"])
    await shim.sees(project.namespace, "members")
    return "members"


@pytest.fixture
def ada(shim: ShimServer, project: ProjectKit) -> Client:
    return Client(shim, project.namespace, token=token(shim, project.namespace))


@pytest.fixture
def eve(shim: ShimServer, project: ProjectKit) -> Client:
    return Client(shim, project.namespace, token=token(shim, project.namespace, UserClaims(user_id="eve")))


@pytest.mark.parametrize(
    "role", ["any", "users", "users/verified", "user:ada", "team:staff", "team:staff/owner", "member:m1"]
)
async def test_a_user_may_call_what_names_one_of_its_roles(
    ada: Client, eve: Client, project: ProjectKit, shim: ShimServer, role: str
) -> None:
    await project.ready("own", execute=[role])
    await shim.sees(project.namespace, "own")

    made = await ada.execute("own")

    assert made.status == 201
    assert (made.body["stdout"], made.body["stderr"]) == ("", "")
    assert (await eve.execute("own")).status == (201 if role in {"any", "users"} else 401)


async def test_what_names_no_role_of_the_user_says_which_it_has(ada: Client, project: ProjectKit) -> None:
    await project.ready("guests", execute=["guests", "team:other"])
    assert isinstance(ada.shim, ShimServer)
    await ada.shim.sees(project.namespace, "guests")

    refused = await ada.execute("guests")

    assert refused.error == (401, "user_unauthorized")
    assert '"team:staff/owner"' in refused.body["message"]


async def test_a_user_sees_its_own_executions_alone(ada: Client, eve: Client, client: Client, members: str) -> None:
    hers = (await ada.execute(members)).body
    others = [(await who.execute(members)).body["$id"] for who in (eve, client)]

    assert hers["$permissions"] == ['read("user:ada")']
    assert (await ada.execution(hers["$id"], members)).status == 200
    assert [item["$id"] for item in (await ada.executions(function=members)).body["executions"]] == [hers["$id"]]
    for id_ in others:
        assert (await ada.execution(id_, members)).error == (404, "execution_not_found")
    assert (await client.executions(function=members)).body["total"] == 3


async def test_a_user_manages_nothing(ada: Client) -> None:
    for method, path in (("GET", "/v1/functions"), ("GET", "/v1/functions/hello"), ("DELETE", "/v1/functions/hello")):
        assert (await ada.call(method, path)).status in {401, 404}


@pytest.mark.parametrize("how", ["sync", "async"])
async def test_a_function_gets_a_token_by_which_it_is_its_user(
    ada: Client, client: Client, members: str, invoker: FakeInvoker, how: str
) -> None:
    made = await ada.execute(members, body={"async": how == "async"})
    done = await client.finished(made.body["$id"], members)

    variables = json.loads(done.body["response"])["variables"]
    assert variables["APPWRITE_FUNCTION_USER_ID"] == "ada"
    again = replace(ada, token=variables["APPWRITE_FUNCTION_JWT"])
    assert (await again.execution(made.body["$id"], members)).status == 200
    assert (await again.execute(members)).status == 201
    assert invoker.invocations[-1].variables["APPWRITE_FUNCTION_USER_ID"] == "ada"


async def test_no_token_is_ever_stored(
    ada: Client, client: Client, members: str, invoker: FakeInvoker, tmp_path: Path
) -> None:
    async def answer(_invocation: Invocation) -> Outcome:
        return completed("silent")

    invoker.answer = answer
    for flag in (False, True):
        made = await ada.execute(members, body={"async": flag, "data": "stored"})
        await client.finished(made.body["$id"], members)

    given = [invocation.variables["APPWRITE_FUNCTION_JWT"] for invocation in invoker.invocations]
    files = stored(tmp_path)
    assert b"stored" in files
    assert all(text.encode() not in files for text in (ada.token, *given))


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("executions.db*"))


async def test_keys_and_guests_give_functions_no_token(client: Client, project: ProjectKit, shim: ShimServer) -> None:
    await project.ready("public", execute=["any"])
    await shim.sees(project.namespace, "public")

    for caller in (client, replace(client, key="")):
        made = (await caller.execute("public")).body
        variables = json.loads(made["response"])["variables"]
        assert (variables["APPWRITE_FUNCTION_USER_ID"], variables["APPWRITE_FUNCTION_JWT"]) == ("", "")
        assert made["$permissions"] == []


async def test_a_token_comes_before_a_key(ada: Client, client: Client, members: str) -> None:
    both = replace(client, token=ada.token)

    assert (await both.execute()).error == (401, "user_unauthorized")  # as the user, whom `hello` does not name
    assert (await both.execute(members)).body["$permissions"] == ['read("user:ada")']
    assert (await replace(client, token="x").execute()).error == INVALID


async def test_a_token_may_come_as_a_bearer(ada: Client, members: str) -> None:
    bearer = {"Authorization": f"Bearer {ada.token}"}

    assert (await replace(ada, token="").execute(members, **bearer)).status == 201


async def test_bad_tokens_are_told_in_appwrites_words(ada: Client, shim: ShimServer) -> None:
    expired = await replace(ada, token=token(shim, ada.project, ago=1000)).executions()
    strange = await replace(ada, token=token(shim, "another")).executions()

    assert expired.error == strange.error == INVALID
    assert expired.body["message"] == "Failed to verify JWT. Invalid token: Expired"
    assert strange.body["message"] == "Failed to verify JWT. Invalid token: Signature failed"


async def test_two_users_with_the_same_idempotency_key_never_meet(ada: Client, eve: Client, members: str) -> None:
    mine, again, theirs = [(await who.execute(members, Idempotency_Key="k")).body["$id"] for who in (ada, ada, eve)]

    assert mine == again != theirs


async def test_guests_share_no_idempotency_key(client: Client, project: ProjectKit, shim: ShimServer) -> None:
    await project.ready("public", execute=["any"])
    await shim.sees(project.namespace, "public")
    guest = replace(client, key="")

    refused = await guest.execute("public", Idempotency_Key="k")

    assert refused.error == (400, "general_argument_invalid")
    assert "Idempotency-Key" in refused.body["message"]


async def command(plane: ControlPlane, system: str, *arguments: str) -> tuple[int, str, str]:
    """Run `python -m appfn jwt`."""
    root = Path(__file__).parents[3]
    environ = {**os.environ, "KUBECONFIG": str(plane.kubeconfig), "APPFN_NAMESPACE": system}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "appfn", "jwt", *arguments),
        cwd=root / "operator",
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode().strip(), err.decode()


async def test_the_command_makes_a_token_that_is_taken(
    control_plane: ControlPlane, system: str, ada: Client, members: str, client: Client
) -> None:
    code, made, _ = await command(control_plane, system, "--project", ada.project, "--user", "grace", "--team", "ops")
    assert code == 0
    grace = replace(ada, token=made)

    assert (await grace.execute(members)).body["$permissions"] == ['read("user:grace")']


async def test_the_command_says_what_is_wrong(control_plane: ControlPlane, system: str, shim: ShimServer) -> None:
    code, made, said = await command(control_plane, system, "--project", "nope", "--user", "grace")

    assert (code, made) == (1, "")
    assert "no namespace is labelled appfn.dev/project=nope" in said

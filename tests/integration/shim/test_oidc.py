"""Users of OpenID Connect issuers, and issuers that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from appfn import names
from appfn.errors import ConfigError, InvalidSpecError, TransientError
from appfn.kube.client import KubeCluster
from appfn.shim.auth.web_documents import MAX_BYTES, WebDocuments
from support.fake_invoker import FakeInvoker
from support.oidc_issuer import AUDIENCE, OidcIssuer, SigningKey
from support.project import ProjectKit
from support.shim_client import Client
from support.shim_server import ShimServer, running_shim, shim_config

INVALID = (401, "user_jwt_invalid")
UNAVAILABLE = (503, "general_service_disabled")


@pytest.fixture
async def issuer() -> AsyncIterator[OidcIssuer]:
    async with OidcIssuer.running() as made:
        yield made


@pytest.fixture
async def shim(
    cluster: KubeCluster, tmp_path: Path, system: str, invoker: FakeInvoker, project: ProjectKit, issuer: OidcIssuer
) -> AsyncIterator[ShimServer]:
    """A shim whose administrator trusts the issuer on this machine."""
    async with running_shim(cluster, shim_config(tmp_path, system, OIDC_TRUSTED=issuer.origin), invoker) as server:
        yield server


async def trust(project: ProjectKit, issuer: OidcIssuer, **fields: Any) -> None:
    trusted = {"issuer": issuer.url, "audience": AUDIENCE, "teamsClaim": "groups", **fields}
    await project.config_map(names.CONFIG_MAP_ISSUERS, {names.ISSUERS_FILE: yaml.safe_dump([trusted])})


@pytest.fixture
async def page(shim: ShimServer, project: ProjectKit, issuer: OidcIssuer) -> Client:
    """A client of a project that trusts the issuer and has a function for its staff."""
    await trust(project, issuer)
    await project.ready("members", execute=["users"])
    await project.ready("staff", execute=["team:staff/lead"])
    for name in ("members", "staff"):
        await shim.sees(project.namespace, name)
    return Client(shim, project.namespace)


async def test_a_user_of_a_trusted_issuer_is_a_user_of_the_project(page: Client, issuer: OidcIssuer) -> None:
    ada = replace(page, token=issuer.token(groups=["staff/lead"]))

    made = await ada.execute("staff")

    assert made.status == 201
    assert made.body["$permissions"] == ['read("user:ada")']
    assert (await ada.execution(made.body["$id"], "staff")).status == 200
    assert (await replace(page, token=issuer.token()).execute("staff")).error == (401, "user_unauthorized")


async def test_the_token_may_come_as_a_bearer(page: Client, issuer: OidcIssuer) -> None:
    assert (await page.execute("members", Authorization=f"Bearer {issuer.token()}")).status == 201


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "PS256"])
async def test_keys_of_all_kinds_are_understood(page: Client, issuer: OidcIssuer, algorithm: str) -> None:
    issuer.keys = [SigningKey("other"), SigningKey("k2", algorithm)]

    assert (await replace(page, token=issuer.token(key=issuer.keys[1])).execute("members")).status == 201


async def test_keys_are_asked_for_once(page: Client, issuer: OidcIssuer) -> None:
    for number in range(5):
        assert (await replace(page, token=issuer.token(sub=f"u{number}")).execute("members")).status == 201

    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_made_up_key_ids_do_not_make_us_ask_again_and_again(page: Client, issuer: OidcIssuer) -> None:
    replies = [
        await replace(page, token=issuer.token(key=SigningKey(f"made-up-{number}"))).execute("members")
        for number in range(10)
    ]

    assert {reply.error for reply in replies} == {INVALID}
    assert len(issuer.asked) == 2


async def test_an_issuer_that_the_project_does_not_name_is_not_asked(
    page: Client, project: ProjectKit, issuer: OidcIssuer
) -> None:
    async with OidcIssuer.running() as stranger:
        assert (await replace(page, token=stranger.token()).execute("members")).error == INVALID
        assert stranger.asked == []
    await project.config_map(names.CONFIG_MAP_ISSUERS, {names.ISSUERS_FILE: ""})
    assert (await replace(page, token=issuer.token()).execute("members")).error == INVALID
    assert issuer.asked == []


async def test_a_token_for_somebody_else_is_refused(page: Client, issuer: OidcIssuer) -> None:
    for changes in ({"aud": "another-app"}, {"exp": 1}, {"sub": None}, {"nbf": 99999999999}):
        assert (await replace(page, token=issuer.token(**changes)).execute("members")).error == INVALID


async def test_what_is_wrong_with_the_configuration_is_told(
    page: Client, project: ProjectKit, issuer: OidcIssuer
) -> None:
    await project.config_map(names.CONFIG_MAP_ISSUERS, {names.ISSUERS_FILE: f"- issuer: {issuer.url}"})

    reply = await replace(page, token=issuer.token()).execute("members")

    assert reply.error == INVALID
    assert "ConfigMap 'appfn-issuers' of the project: issuers[0].audience: Field required" in reply.body["message"]


MISBEHAVIOUR: dict[str, tuple[Callable[[OidcIssuer], Any], tuple[int, str]]] = {
    "an error": (lambda _: web.Response(status=500), UNAVAILABLE),
    "a redirect": (lambda it: web.Response(status=302, headers={"Location": f"{it.url}/keys"}), UNAVAILABLE),
    "a page": (lambda _: web.Response(text="<html>"), INVALID),
    "no keys": (lambda _: {"keys": []}, INVALID),
    "no key set": (lambda _: ["keys"], INVALID),
    "too much": (lambda _: web.Response(body=b" " * (MAX_BYTES + 1) + b"{}"), UNAVAILABLE),
    "a secret as a key": (lambda _: {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}]}, INVALID),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
async def test_what_an_issuer_answers_instead_of_keys_is_of_no_use(page: Client, issuer: OidcIssuer, name: str) -> None:
    answer, error = MISBEHAVIOUR[name]
    issuer.answer = lambda: answer(issuer)

    reply = await replace(page, token=issuer.token()).execute("members")

    assert reply.error == error
    assert issuer.asked[-1] == "/keys"


async def test_the_discovery_document_of_another_is_not_believed(page: Client, issuer: OidcIssuer) -> None:
    issuer.discovery = lambda: {"issuer": "https://other.example.com", "jwks_uri": f"{issuer.url}/keys"}

    assert (await replace(page, token=issuer.token()).execute("members")).error == INVALID
    assert issuer.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize("place", ["http://169.254.169.254/keys", "https://10.0.0.1/keys", "https://localhost/keys"])
async def test_an_issuer_cannot_send_us_elsewhere(page: Client, issuer: OidcIssuer, place: str) -> None:
    issuer.discovery = lambda: {"issuer": issuer.url, "jwks_uri": place}

    assert (await replace(page, token=issuer.token()).execute("members")).error in {INVALID, UNAVAILABLE}


async def test_an_issuer_that_is_down_is_not_asked_by_every_caller(page: Client, issuer: OidcIssuer) -> None:
    issuer.answer = lambda: web.Response(status=503)

    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(replace(page, token=issuer.token()).execute("members")) for _ in range(20)]

    assert {call.result().error for call in calls} == {UNAVAILABLE}
    assert issuer.asked.count("/keys") == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fd00::1]/",
        "https://[fec0::1]/",
        "https://[::10.0.0.1]/",
        "https://[64:ff9b::10.0.0.1]/",
        "https://[64:ff9b:1::10.0.0.1]/",
        "https://127。0。0。1/",
        "https://169.254.169.254/latest",
        "https://0.0.0.0/",
        "https://user@example.com/",
        "file:///etc/passwd",
        "",
    ],
)
async def test_what_is_not_public_is_not_asked_for(url: str) -> None:
    async with WebDocuments.open("") as documents:
        with pytest.raises(InvalidSpecError):
            await documents.get(url)


@pytest.mark.parametrize("url", ["https://localhost/", "https://2130706433/", "https://127.1/", "https://0x7f.1/"])
async def test_names_of_what_is_not_public_lead_nowhere(url: str) -> None:
    async with WebDocuments.open("") as documents:
        with pytest.raises(TransientError):
            await documents.get(url)


async def test_what_is_trusted_must_be_origins() -> None:
    with pytest.raises(ConfigError, match="APPFN_OIDC_TRUSTED"):
        async with WebDocuments.open("https://dex.auth.svc, dex"):
            raise AssertionError

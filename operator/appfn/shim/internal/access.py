"""Which of appfn's own parts calls."""

import hmac
import re
from typing import Final, NamedTuple

from aiohttp import web

from appfn import names
from appfn.api.kinds import DEPLOYMENT, Key
from appfn.dispatch.tokens import announce_token
from appfn.kube.protocols import TokenIdentity
from appfn.shim.auth.authenticator import bearer
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.services import AUTH, CATALOG, CONFIG, MASTER_KEY

POD_HEADER: Final = "X-Appfn-Pod"
"""`namespace/deployment/pod`: whose pod calls, where its token doesn't say."""
_LABEL = "([a-z0-9-]{1,63})"
_POD = re.compile(f"{_LABEL}/{_LABEL}/{_LABEL}", re.ASCII)
_SERVICE_ACCOUNT = re.compile(r"system:serviceaccount:([a-z0-9-]{1,63}):(.{1,253})", re.ASCII)


class Announcer(NamedTuple):
    """A runtime pod whose agent calls."""

    namespace: str
    pod: str
    own_token: bool
    """False: its token is that of its Deployment, so it may say to be another of that one's pods."""


async def operator(request: web.Request) -> None:
    """Return where the caller is the operator.

    Raises:
        AppwriteError: internal_unauthenticated, internal_forbidden.
        TransientError: the API server can't say who calls.
    """
    if await _username(request) != request.app[CONFIG].operator_user:
        raise AppwriteError(Problem.INTERNAL_FORBIDDEN)


async def operator_or_build(request: web.Request, namespace: str) -> None:
    """Return where the caller is the operator or a build pod of that namespace; raises as `operator`."""
    username = await _username(request)
    if username not in {request.app[CONFIG].operator_user, _account(namespace, names.SERVICE_ACCOUNT_BUILD)}:
        raise AppwriteError(Problem.INTERNAL_FORBIDDEN)


async def trigger(request: web.Request) -> str:
    """Return the namespace whose trigger calls; raises as `operator`."""
    match = _SERVICE_ACCOUNT.fullmatch(await _username(request))
    if match is None or match[2] != names.SERVICE_ACCOUNT_TRIGGER:
        raise AppwriteError(Problem.INTERNAL_FORBIDDEN)
    return match[1]


async def runtime_pod(request: web.Request) -> Announcer:
    """Return the runtime pod whose agent calls; raises as `operator`.

    It has a ServiceAccount token, or that of the Deployment it was made for.
    """
    if (told := request.headers.get(POD_HEADER)) is not None:
        return _made_pod(request, told)
    return Announcer(*await _pod(request, names.SERVICE_ACCOUNT_RUNTIME), own_token=True)


async def build_pod(request: web.Request) -> tuple[str, str]:
    """Return namespace and name of the build pod whose agent calls; raises as `operator`."""
    return await _pod(request, names.SERVICE_ACCOUNT_BUILD)


def _made_pod(request: web.Request, told: str) -> Announcer:
    """Return the pod that somebody says to be who has the token of the Deployment that he names."""
    if (match := _POD.fullmatch(told)) is None:
        raise AppwriteError(Problem.INTERNAL_UNAUTHENTICATED, f"{POD_HEADER} is not namespace/deployment/pod.")
    namespace, deployment, pod = match.groups()
    known = request.app[CATALOG].metadata(DEPLOYMENT, Key(namespace, deployment))
    uid = known.uid if known is not None else ""
    token = announce_token(request.app[MASTER_KEY], namespace=namespace, deployment=deployment, uid=uid)
    given = bearer(request.headers).encode(errors="replace")
    if not hmac.compare_digest(given, token.encode()) or not uid:
        raise AppwriteError(Problem.INTERNAL_UNAUTHENTICATED, "The token is not that of the Deployment.")
    if not names.is_runtime_pod(pod, deployment):
        raise AppwriteError(Problem.INTERNAL_FORBIDDEN, "No pod of the Deployment has this name.")
    return Announcer(namespace, pod, own_token=False)


async def _pod(request: web.Request, account: str) -> tuple[str, str]:
    identity = await _identity(request)
    match = _SERVICE_ACCOUNT.fullmatch(identity.username)
    if match is None or match[2] != account or not identity.pod:
        raise AppwriteError(Problem.INTERNAL_FORBIDDEN)
    return match[1], identity.pod


async def _username(request: web.Request) -> str:
    return (await _identity(request)).username


async def _identity(request: web.Request) -> TokenIdentity:
    identity = await request.app[AUTH].identity(bearer(request.headers))
    if identity is None:
        raise AppwriteError(Problem.INTERNAL_UNAUTHENTICATED)
    return identity


def _account(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"

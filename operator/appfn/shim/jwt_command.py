"""`python -m appfn jwt`: make a token for a user of a project, which goes to stdout.

kubectl -n appfn-system exec appfn-shim-0 -- python -m appfn jwt --project demo --user ada --team staff/owner
"""

import argparse
import asyncio
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appfn import names
from appfn.api.kinds import NAMESPACE
from appfn.config import SYSTEM_NAMESPACE
from appfn.errors import AppfnError, ConfigError
from appfn.kube import client
from appfn.kube.protocols import Reader
from appfn.shim import master_key
from appfn.shim.auth import user_token
from appfn.shim.auth.identity import UserClaims, memberships_of, teams_of
from appfn.shim.callee import Project

_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_LONGEST = int(user_token.LIFETIME.total_seconds())


def main(arguments: list[str]) -> int:
    """Print a token; return the exit code."""
    options = _parser().parse_args(arguments)
    claims = UserClaims(
        user_id=options.user,
        verified=options.verified,
        teams=teams_of(options.team),
        memberships=memberships_of(options.membership),
    )
    try:
        token = asyncio.run(_made(options.project, claims, lifetime=timedelta(seconds=options.seconds)))
    except AppfnError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{token}\n")
    return 0


async def _made(project_id: str, claims: UserClaims, *, lifetime: timedelta) -> str:
    kubeconfig = os.environ.get("APPFN_KUBECONFIG") or os.environ.get("KUBECONFIG")
    system = os.environ.get("APPFN_NAMESPACE") or SYSTEM_NAMESPACE
    async with client.connect(Path(kubeconfig) if kubeconfig else None) as cluster:
        project = await owner(cluster, project_id, system=system)
        key = user_token.signing_key(await master_key.read(cluster, system), project)
    return user_token.sign(claims, project=project, key=key, now=datetime.now(UTC), lifetime=lifetime)


async def owner(cluster: Reader, project_id: str, *, system: str) -> Project:
    """Return the namespace that has a project's id: the oldest, as the shim finds it.

    Raises:
        ConfigError: there is none.
    """
    found = await cluster.list(NAMESPACE, labels=f"{names.LABEL_PROJECT}={project_id}")
    metadata = [item["metadata"] for item in found if item["metadata"]["name"] != system]
    if not metadata:
        raise ConfigError(f"no namespace is labelled {names.LABEL_PROJECT}={project_id}")
    oldest = min(metadata, key=lambda item: (datetime.fromisoformat(item["creationTimestamp"]), item["name"]))
    return Project(project_id, oldest["name"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m appfn jwt", description="Make a token for a user of a project: the value of X-Appwrite-JWT."
    )
    parser.add_argument("--project", required=True, type=_project, help="the project's id")
    parser.add_argument("--user", required=True, type=_user, help="the user's id")
    parser.add_argument("--team", action="append", default=[], type=_team, help="TEAM or TEAM/ROLE; repeat for several")
    parser.add_argument(
        "--membership", action="append", default=[], type=_membership, help="id of a membership; repeat for several"
    )
    parser.add_argument("--verified", action="store_true", help="the user's address is verified")
    parser.add_argument(
        "--seconds", type=int, choices=range(1, _LONGEST + 1), default=_LONGEST, metavar=f"1..{_LONGEST}"
    )
    return parser


def _project(text: str) -> str:
    if not _PROJECT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no project's id")
    return text


def _user(text: str) -> str:
    if not user_token.is_user_id(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be letters, digits, '.', '_' and '-', 120 at most")
    return text


def _team(text: str) -> str:
    if not teams_of([text]):
        raise argparse.ArgumentTypeError(f"{text!r} is neither TEAM nor TEAM/ROLE")
    return text


def _membership(text: str) -> str:
    if not memberships_of([text]):
        raise argparse.ArgumentTypeError(f"{text!r} is no membership's id")
    return text

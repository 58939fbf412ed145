"""`python -m appfn key`: make an API key. The Secret goes to stdout, for kubectl; the key to stderr, once.

python -m appfn key --namespace demo --scope executions.write | kubectl apply -f -
"""

import argparse
import re
import secrets
import sys
from datetime import UTC, datetime, timedelta

import yaml

from appfn.shim.auth import api_key
from appfn.shim.auth.identity import Scope, scopes_of

_DURATION = re.compile(r"(\d{1,5})([hd])", re.ASCII)


def main(arguments: list[str]) -> int:
    """Print a new key and its Secret; return the exit code."""
    options = _parser().parse_args(arguments)
    now = datetime.now(UTC)
    if options.expires is not None and _moment(options.expires, now) <= now:
        _parser().error("argument --expires: is in the past")
    key = api_key.generate(secrets.token_bytes)
    manifest = api_key.manifest(
        key,
        namespace=options.namespace,
        name=options.name,
        scopes=scopes_of(" ".join(options.scope)),
        expires=_moment(options.expires, now) if options.expires else None,
    )
    yaml.safe_dump(manifest, sys.stdout, sort_keys=False)
    sys.stderr.write(f"API key, shown this once: {key.text()}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m appfn key",
        description="Make an API key: the Secret to apply on stdout, the key itself on stderr.",
    )
    parser.add_argument("--namespace", required=True, help="the project's namespace")
    parser.add_argument(
        "--scope",
        action="append",
        required=True,
        type=_scope,
        help=f"what the key may do; repeat for several: {', '.join(Scope)}",
    )
    parser.add_argument("--name", default="", help="for people: what the key is for")
    parser.add_argument(
        "--expires", type=_expires, help="a date such as 2030-01-31T00:00:00Z, or a time such as 90d or 12h"
    )
    return parser


def _scope(text: str) -> str:
    (scope,) = scopes_of(text) or {""}
    if scope not in set(Scope):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(Scope)}")
    return scope


def _expires(text: str) -> str:
    try:
        _moment(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a date with a time zone nor a time such as 90d"
        ) from error
    return text


def _moment(text: str, now: datetime) -> datetime:
    if match := _DURATION.fullmatch(text):
        amount = int(match[1])
        return now + (timedelta(hours=amount) if match[2] == "h" else timedelta(days=amount))
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment

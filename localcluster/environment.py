"""What this machine's owner set so that package managers reach their registries.

Builds inside the cluster need the same: proxies, mirrors, authorities.
"""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from localcluster import commands

VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "GOPROXY",
    "GONOSUMDB",
    "GOSUMDB",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_EXTRA_INDEX_URL",
    "PIP_INDEX_URL",
    "PIP_TRUSTED_HOST",
)
AUTHORITIES_MOUNT = "/etc/appfn-ca/ca-certificates.crt"

_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")
_BUNDLE_VARIABLES = ("CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "SSL_CERT_FILE")
_APT_SETTING = re.compile(r'^Acquire::(?:(?:https?::)?Proxy|Check-Valid-Until|Check-Date)\b.* "[^"]+";$', re.IGNORECASE)
_CONFIGURED = {
    "pip": (["config", "get", "global.index-url"], re.compile(r"(\S+)")),
    "npm": (["config", "ls"], re.compile(r'^registry = "(.+)"', re.MULTILINE)),
}
"""How to ask each tool for its registry, and where the answer has it; npm lists only what isn't its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildEnvironment:
    """``variables`` for every build pod; ``authorities`` (PEM) to mount, None if the public ones do."""

    variables: dict[str, str]
    authorities: str | None


def build_environment(mount: str = AUTHORITIES_MOUNT) -> BuildEnvironment:
    """What build pods of this machine's cluster need.

    With local authorities the variables name the bundle at ``mount``.
    """
    variables = package_environment()
    if not _has_local_authorities():
        return BuildEnvironment(variables=variables, authorities=None)
    variables |= dict.fromkeys(_BUNDLE_VARIABLES, mount)
    return BuildEnvironment(variables=variables, authorities=_BUNDLE.read_text())


def package_environment() -> dict[str, str]:
    """The variables of package managers that are set here, and registries from their own files."""
    found = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    return {**_configured("pip", "PIP_INDEX_URL"), **_configured("npm", "NPM_CONFIG_REGISTRY"), **found}


def host_apt_settings() -> str:
    """This machine's apt settings on proxies and on the age of package lists, as an apt.conf."""
    if commands.find("apt-config") is None:
        return ""
    lines = commands.run(["apt-config", "dump"]).splitlines()
    return "".join(f"{line}\n" for line in lines if _APT_SETTING.match(line))


@cache
def _configured(tool: str, variable: str) -> dict[str, str]:
    """The registry a package manager's own configuration names, if it isn't the public one."""
    options, pattern = _CONFIGURED[tool]
    if commands.find(tool) is None:
        return {}
    done = commands.attempt([tool, *options])
    found = pattern.search(done.stdout) if done.returncode == 0 else None
    return {variable: found.group(1)} if found else {}


def _has_local_authorities() -> bool:
    return _LOCAL_AUTHORITIES.is_dir() and any(_LOCAL_AUTHORITIES.rglob("*.crt")) and _BUNDLE.exists()

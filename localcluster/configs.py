"""Configuration of the control plane, rendered. Pure: text in, text out.

Everything is written as JSON, which every reader of YAML takes.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

AUDIT_QUIET_USERS = (
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:kube-proxy",
)
AUDIT_QUIET_GROUPS = ("system:nodes", "system:serviceaccounts:kube-system")


def render(document: Document) -> str:
    """The file's text."""
    return json.dumps(document, indent=1) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """PEM texts of a client's certificate and key and of the authority it trusts."""

    authority: str
    certificate: str
    key: str


def kubeconfig(server: str, user: str, credentials: Credentials) -> Document:
    """A kubeconfig that holds its credentials itself, so that it can be moved."""
    cluster = {"server": server, "certificate-authority-data": _base64(credentials.authority)}
    client = {
        "client-certificate-data": _base64(credentials.certificate),
        "client-key-data": _base64(credentials.key),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "appfn",
        "clusters": [{"name": "appfn", "cluster": cluster}],
        "users": [{"name": user, "user": client}],
        "contexts": [{"name": "appfn", "context": {"cluster": "appfn", "user": user}}],
    }


def audit_policy() -> Document:
    """Every write by anybody and every read but those of the system's own components."""
    reads = ["get", "list", "watch"]
    rules = [
        {"level": "None", "verbs": reads, "users": list(AUDIT_QUIET_USERS)},
        {"level": "None", "verbs": reads, "userGroups": list(AUDIT_QUIET_GROUPS)},
        {"level": "None", "verbs": reads, "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*"]},
        {"level": "Metadata"},
    ]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": rules,
    }


def admission() -> Document:
    """Pod Security: namespaces that say nothing get ``baseline``, not ``privileged``."""
    configuration = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": "baseline", "enforce-version": "latest"},
    }
    return {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{"name": "PodSecurity", "configuration": configuration}],
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()

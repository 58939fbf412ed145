"""What should be running of a function, as the caller of the dispatcher says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from appfn.api.base import ObjectMeta
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.core.records import Invocation
from appfn.dispatch.launcher import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The active deployment of a function, ready to be loaded."""

    function: Function
    runtime: Runtime
    deployment: str
    """Resource name."""
    deployment_uid: str
    entrypoint: str
    artifacts: Mapping[Architecture, str]
    """Digest of the built artifact per architecture that is ready."""
    variables: Mapping[str, str] | None = field(default=None, repr=False)
    """Environment of pods that are loaded ahead of a call; None without `minReplicas`, where calls bring it."""

    def code(self) -> Code:
        """Return what its pods are loaded with."""
        return Code(
            deployment=_owner(self.deployment, self.deployment_uid, self.function.metadata.namespace),
            entrypoint=self.entrypoint,
            artifacts=self.artifacts,
            variables=self.variables,
        )


def code_of(invocation: Invocation) -> Code:
    """Return what a pod is loaded with to serve an invocation."""
    return Code(
        deployment=_owner(invocation.deployment, invocation.deployment_uid, invocation.namespace),
        entrypoint=invocation.entrypoint,
        artifacts=invocation.artifacts,
        variables=invocation.variables,
    )


@lru_cache(maxsize=4096)  # asked for each call
def _owner(name: str, uid: str, namespace: str) -> ObjectMeta:
    return ObjectMeta(name=name, uid=uid, namespace=namespace)

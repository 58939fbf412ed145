"""What a call is about: a project, and a function in it with all that running it takes. Immutable values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from appfn.api.deployment import Deployment
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.core.quantity import memory_mb
from appfn.core.shares import ALONE, Part, capacity, share_of
from appfn.shim.origins import Origins


@dataclass(frozen=True, slots=True)
class Project:
    """A namespace that is an Appwrite project."""

    id: str
    namespace: str
    origins: Origins = field(default=Origins(), compare=False)


@dataclass(frozen=True, kw_only=True)
class Callee:
    """A function that can be called now, with all that a call needs to know; much of it is found out once."""

    project: Project
    function: Function
    runtime: Runtime
    deployment: Deployment
    artifacts: Mapping[Architecture, str]
    """Digest of the built artifact per architecture that is ready; never empty."""
    constants: Mapping[str, str]
    """Those of Appwrite's variables that are the same for each call."""
    part: Part = ALONE
    """The process this is."""

    @cached_property
    def entrypoint(self) -> str:
        """The file to run."""
        return self.deployment.spec.entrypoint or self.runtime.spec.entrypoint

    @cached_property
    def memory_mb(self) -> int:
        """Memory of each of its pods, in MiB."""
        return memory_mb(self.function.spec.resources or self.runtime.spec.resources)

    @property
    def capacity(self) -> int:
        """How many calls of the function this process can run at once."""
        return capacity(self.function, self.runtime, self.part)

    @cached_property
    def minimum(self) -> int:
        """How many pods this process keeps loaded."""
        return share_of(self.function, self.function.spec.scaling.min_replicas, self.part)

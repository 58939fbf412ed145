"""Appwrite's sizes of a function, pure: a word for the CPUs and the memory that the container gets."""

from dataclasses import dataclass

from appfn.api.base import Json
from appfn.api.pods import ResourceRequirements
from appfn.shim.errors import invalid_argument

CUSTOM = "custom"
"""Shown where a Function's resources are none of the sizes; given back, it leaves them as they are."""
_REQUESTS = {"cpu": "50m", "memory": "64Mi"}
"""As the catalogue's runtimes: a size is a limit, and what is idle reserves nothing."""


@dataclass(frozen=True, slots=True)
class Specification:
    """One size: CPUs, and memory in MiB."""

    slug: str
    cpus: float
    memory: int

    def model(self) -> Json:
        """Return the Specification model."""
        return {"slug": self.slug, "cpus": self.cpus, "memory": self.memory, "enabled": True}

    def limits(self) -> dict[str, str]:
        """Return the limits of the container."""
        return {"cpu": f"{self.cpus:g}", "memory": f"{self.memory}Mi"}


DEFAULT = Specification("s-1vcpu-512mb", 1, 512)
"""What a Function without resources of its own is said to have: those of the catalogue's runtimes."""
ALL = (
    Specification("s-0.5vcpu-512mb", 0.5, 512),
    DEFAULT,
    Specification("s-1vcpu-1gb", 1, 1024),
    Specification("s-2vcpu-2gb", 2, 2048),
    Specification("s-2vcpu-4gb", 2, 4096),
    Specification("s-4vcpu-4gb", 4, 4096),
    Specification("s-4vcpu-8gb", 4, 8192),
    Specification("s-8vcpu-4gb", 8, 4096),
    Specification("s-8vcpu-8gb", 8, 8192),
)


def slug_of(resources: ResourceRequirements | None) -> str:
    """Return the size that resources are."""
    if resources is None:
        return DEFAULT.slug
    return next((size.slug for size in ALL if size.limits() == resources.limits), CUSTOM)


def resources_of(parameter: str, slug: str) -> Json | None:
    """Return `spec.resources` of a size; None for the default, with which a pod of the pool does.

    Raises:
        AppwriteError: general_argument_invalid.
    """
    if slug == DEFAULT.slug:
        return None
    size = next((size for size in ALL if size.slug == slug), None)
    if size is None:
        raise invalid_argument(parameter, f"Value must be one of ({', '.join(size.slug for size in ALL)})")
    return {"requests": _REQUESTS, "limits": size.limits()}

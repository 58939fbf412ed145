"""Parts of a pod's spec that users of appfn may set."""

from pydantic import ConfigDict, Field

from appfn.api.base import Model


class ResourceRequirements(Model):
    """As `resources` of a container; quantities are Kubernetes strings (`cpu: 1` in a manifest comes as a number)."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    requests: dict[str, str] = Field(default_factory=dict)
    limits: dict[str, str] = Field(default_factory=dict)


class Toleration(Model):
    """As a pod's toleration."""

    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None

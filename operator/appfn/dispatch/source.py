"""Where the settings of a group of pods come from."""

from appfn.api.function import Function
from appfn.api.runtime import Runtime
from appfn.core.manifests.runtime_pod import RuntimePodTemplate
from appfn.core.shares import ALONE, Part, share_of
from appfn.core.values import Value
from appfn.dispatch.scaling import Limits


class Source(Value, frozen=True):
    """A Function and its Runtime as one caller saw them."""

    function: Function
    runtime: Runtime
    part: Part = ALONE
    """The process this is: what it may have of the function's pods."""

    def template(self) -> RuntimePodTemplate:
        """Return what pods made for them look like."""
        return RuntimePodTemplate.of(self.function, self.runtime)

    def limits(self) -> Limits:
        """Return how many pods and calls they allow this process."""
        scaling = self.function.spec.scaling
        allowed = self.runtime.spec.concurrency
        return Limits(
            minimum=self.share(scaling.min_replicas),
            maximum=self.share(max(1, scaling.max_replicas)),
            concurrency=max(1, min(scaling.concurrency or allowed, allowed)),
            idle_seconds=scaling.idle_seconds,
        )

    def room(self, least: int) -> int:
        """Return how many calls may wait here: as many as can run at once, and no fewer than its part of `least`."""
        limits = self.limits()
        return max(self.share(least), limits.maximum * limits.concurrency)

    def share(self, total: int) -> int:
        """Return this process's part of what the function may have in all."""
        return share_of(self.function, total, self.part)

    def same(self, other: "Source") -> bool:
        """Tell, at once, whether both are the very objects of `other`, as they are between two changes of a cache."""
        return self.function is other.function and self.runtime is other.runtime

    def older(self, other: "Source") -> bool:
        """Tell whether a caller still saw an older state than `other`."""
        mine, its = self.runtime.metadata, other.runtime.metadata
        runtime_older = mine.uid == its.uid and mine.generation < its.generation
        return runtime_older or self.function.metadata.generation < other.function.metadata.generation

"""Which deployment calls go to while another takes over.

A function with `minReplicas` is to have no cold start, at the activation of a new deployment neither: calls go to the
one before until the new one has its pods loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from appfn.shim.callee import Callee
from appfn.shim.catalog import Catalog
from appfn.shim.ports import Invoker


@dataclass(slots=True)
class _Rollout:
    serving: Callee
    next_uid: str = ""
    """Of the deployment that is to take over."""
    begun: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """Remembers what each function with `minReplicas` serves."""

    invoker: Invoker
    catalog: Catalog
    patience: float
    """Seconds after which a deployment takes over whose pods do not come up: its calls are to say why."""
    monotonic: Callable[[], float]
    _known: dict[str, _Rollout] = field(default_factory=dict)

    def serving(self, callee: Callee) -> Callee:
        """Return the function with the deployment that a call goes to now, given the one that is active."""
        uid, minimum = callee.function.metadata.uid, callee.minimum
        if not minimum:
            return callee
        known = self._known.get(uid)
        if known is None or self._taken_over(known, callee, minimum):
            self._known[uid] = _Rollout(callee)
            return callee
        old = known.serving
        return replace(callee, deployment=old.deployment, artifacts=old.artifacts, constants=old.constants)

    def forget(self, function_uid: str) -> None:
        """Forget a function that is gone."""
        self._known.pop(function_uid, None)

    def _taken_over(self, known: _Rollout, callee: Callee, minimum: int) -> bool:
        old, new = known.serving.deployment.metadata, callee.deployment.metadata
        if old.uid == new.uid or not self.catalog.has_deployment(old.key, uid=old.uid):
            return True
        if known.next_uid != new.uid:
            known.next_uid, known.begun = new.uid, self.monotonic()
        late = self.monotonic() - known.begun > self.patience
        return late or self.invoker.ready(callee.function.metadata.uid, new.uid) >= minimum

"""Pods that do not come up: how long the next try waits, so that a broken deployment makes few pods."""

from collections.abc import Collection
from typing import Final

from appfn.api.execution import Failure
from appfn.dispatch import failures
from appfn.dispatch.pod import PodState, RuntimePod

_BACKOFF_SECONDS: Final = 1.0
_MAX_BACKOFF_SECONDS: Final = 30.0
_MAX_DOUBLINGS: Final = 6


class Trouble:
    """Remembers failures in a row. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.tries = 0
        """Tries in a row whose pods failed before they answered a call."""
        self.not_before = 0.0
        """Earliest time for the next pod."""
        self.last: Failure | None = None
        """Why the last pod failed."""
        self._failed_at = 0.0

    def note(self, failure: Failure, *, created: float, now: float) -> None:
        """Let the next pod wait, each time longer; pods started together fail together and count as one try."""
        self.last = failure
        if not self.tries or created > self._failed_at:
            self.tries += 1
        self._failed_at = now
        pause = _BACKOFF_SECONDS * 2 ** (min(self.tries, _MAX_DOUBLINGS) - 1)
        self.not_before = now + min(_MAX_BACKOFF_SECONDS, pause)

    def over(self) -> None:
        """Take in that a pod has answered a call."""
        self.tries = 0

    def expired(self, pods: Collection[RuntimePod], *, waited: float) -> Failure:
        """Return why a call waited in vain, so many seconds, for one of these pods."""
        starting = next((pod for pod in pods if pod.state.starting), None)
        if any(pod.state is PodState.READY for pod in pods):
            return failures.queue_timeout(waited)
        if starting is not None:
            late = f"pod {starting.key.name} was not ready after {waited:g} s: {starting.waiting}"
            return failures.pod_not_started(late)
        return self.last or failures.queue_timeout(waited)

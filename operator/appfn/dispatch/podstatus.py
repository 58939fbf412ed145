"""What a pod's status means for whoever waits for it: pure reading of the API's JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from appfn.api.base import Json
from appfn.core.manifests.runtime_pod import RUNTIME_CONTAINER

_HOPELESS = frozenset({"ErrImageNeverPull", "InvalidImageName"})
"""Reasons of a waiting container that no time heals."""
_ORDINARY = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Reasons of a container that is simply on its way."""
_MAX_MESSAGE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    """The parts of a status that decide something; texts are empty where there is nothing to say."""

    address: str
    waiting: str
    """Why the pod is not up yet."""
    ended: str
    """Why it will never serve (again)."""
    restarts: int = 0
    """How often its runtime was started again: pods of a pool are, by the kubelet."""
    last_end: str = ""
    """Why it was, the last time; means nothing without restarts."""


def read_status(body: Json) -> PodStatus:
    """Return what the pod's status says."""
    status = body.get("status") or {}
    restarts, last_end = _restarts(status)
    return PodStatus(
        address=status.get("podIP") or "",
        waiting=_waiting(status),
        ended=_ended(body, status),
        restarts=restarts,
        last_end=last_end,
    )


def is_ready(body: Json) -> bool:
    """Tell whether the pod is Ready: for one of a pool, that it can be given code."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def _restarts(status: Mapping[str, Any]) -> tuple[int, str]:
    for container in status.get("containerStatuses") or []:
        if container.get("name") == RUNTIME_CONTAINER:
            terminated = (container.get("lastState") or {}).get("terminated") or {}
            return int(container.get("restartCount") or 0), f"its container ended: {_termination(terminated)}"
    return 0, ""


def _ended(body: Json, status: Mapping[str, Any]) -> str:
    for name, state in _container_states(status):
        terminated = state.get("terminated")
        if terminated is not None and name == RUNTIME_CONTAINER:
            return f"its container ended: {_termination(terminated)}"
        waiting = state.get("waiting") or {}
        if waiting.get("reason") in _HOPELESS:
            return _container_waiting(name, waiting)
    if status.get("phase") in {"Failed", "Succeeded"}:
        return _joined(status.get("reason") or status["phase"], status.get("message"))
    if (body.get("metadata") or {}).get("deletionTimestamp"):
        return "it was deleted"
    return ""


def _waiting(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _joined(condition.get("reason") or "Unschedulable", condition.get("message"))
    for name, state in _container_states(status):
        waiting = state.get("waiting") or {}
        if waiting.get("reason", "") not in _ORDINARY:
            return _container_waiting(name, waiting)
    return "its containers are being created" if status.get("phase") == "Pending" else ""


def _container_states(status: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(field) or []:
            yield str(container.get("name", "")), container.get("state") or {}


def _container_waiting(name: str, waiting: Mapping[str, Any]) -> str:
    return f"container {name}: {_joined(waiting['reason'], waiting.get('message'))}"


def _termination(terminated: Mapping[str, Any]) -> str:
    reason = terminated.get("reason") or "Error"
    if reason == "OOMKilled":
        return "OOMKilled (it used more memory than its limit)"
    return f"{reason} (exit code {terminated.get('exitCode', 'unknown')})"


def _joined(reason: object, message: object) -> str:
    """Return `reason: message`, the message bounded; a termination message of user code is never among them."""
    return f"{reason}: {str(message)[:_MAX_MESSAGE]}" if message else str(reason)

"""Pools of warm pods: which functions they serve, and which pools a project has."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from appfn import names
from appfn.api.base import Json
from appfn.api.function import Function
from appfn.api.runtime import Architecture, Runtime
from appfn.core.catalogue import unusable
from appfn.core.manifests.drift import contains
from appfn.core.manifests.pool import LABELS, PoolSettings, pool_deployment

LOOK_AGAIN_SECONDS = 60.0
"""How soon to look whether what stands in the way is gone: no event tells of it."""
_SIZE = re.compile(r"100|[0-9]{1,2}")
_MAX_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A namespace and all that its pools depend on."""

    namespace: str
    project: bool
    """It is one."""
    annotations: Mapping[str, str]
    """The namespace's."""
    functions: Sequence[Function]
    """The namespace's; of those that are alike to a pool one will do."""
    runtimes: Sequence[Runtime]
    """Those that the functions name."""
    architectures: frozenset[str]
    """Those of the cluster's nodes."""
    deployments: Sequence[Json]
    """All apps/v1 Deployments of the namespace."""
    image: str
    """appfn's own image."""
    shim_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Pools to apply, by their manifests, and to delete, as they were seen."""

    apply: tuple[Json, ...] = ()
    delete: tuple[Json, ...] = ()
    problems: tuple[str, ...] = ()
    """What a person has to put right."""
    requeue: float | None = None


def fits_pool(function: Function) -> bool:
    """Tell whether a pod of a pool will do for the function: its spec asks for no pod of another kind."""
    spec = function.spec
    asks = (spec.resources, spec.node_selector, spec.tolerations, spec.runtime_class_name)
    return not any(asks)


def decide(observed: Observed) -> Plan:
    """Conclude which pools to make, change and remove; at rest, none."""
    wanted = {manifest["metadata"]["name"]: manifest for manifest in _wanted(observed)}
    present = {body["metadata"]["name"]: body for body in observed.deployments}
    foreign = {name for name in wanted if name in present and not _ours(present[name])}
    return Plan(
        apply=tuple(
            manifest
            for name, manifest in wanted.items()
            if name not in foreign and not contains(present.get(name), manifest)
        ),
        delete=tuple(body for name, body in present.items() if name not in wanted and _ours(body) and not _going(body)),
        problems=(*_wrong_sizes(observed), *(_not_ours(observed.namespace, name) for name in sorted(foreign))),
        requeue=LOOK_AGAIN_SECONDS if foreign else None,
    )


def _wanted(observed: Observed) -> Iterator[Json]:
    for runtime in observed.runtimes if observed.project else ():
        size = _size(observed, runtime)
        if size == 0 or unusable(runtime.metadata.name, runtime) is not None:
            continue
        for architecture in sorted(entry.architecture for entry in runtime.spec.images):
            if architecture in observed.architectures and _used(observed.functions, runtime, architecture):
                settings = PoolSettings(
                    namespace=observed.namespace,
                    architecture=architecture,
                    size=size,
                    agent_image=observed.image,
                    announce_url=observed.shim_url,
                )
                yield pool_deployment(runtime, settings)


def _used(functions: Sequence[Function], runtime: Runtime, architecture: Architecture) -> bool:
    """Tell whether there is a function that may claim pods of the pool."""
    return any(
        function.spec.runtime == runtime.metadata.name
        and function.spec.enabled
        and function.metadata.deletion_timestamp is None
        and (not function.spec.architectures or architecture in function.spec.architectures)
        and fits_pool(function)
        for function in functions
    )


def _size(observed: Observed, runtime: Runtime) -> int:
    value = observed.annotations.get(f"{names.ANNOTATION_POOL_PREFIX}{runtime.metadata.name}", "")
    return int(value) if _SIZE.fullmatch(value) else runtime.spec.pool


def _wrong_sizes(observed: Observed) -> Iterator[str]:
    for name, value in sorted(observed.annotations.items()):
        if name.startswith(names.ANNOTATION_POOL_PREFIX) and not _SIZE.fullmatch(value):
            yield (
                f"namespace {observed.namespace}: annotation {name} is {value[:_MAX_SHOWN]!r} and must be a whole"
                " number from 0 to 100; until then the pool is as large as its Runtime says. Set it with:"
                f" kubectl annotate namespace {observed.namespace} --overwrite {name}=NUMBER"
            )


def _not_ours(namespace: str, name: str) -> str:
    return (
        f"namespace {namespace}: the Deployment {name} (apps/v1) isn't appfn's but has the name of a pool, which there"
        f" isn't until somebody removes it: kubectl -n {namespace} delete deployments.apps {name}"
    )


def _ours(body: Json) -> bool:
    return LABELS.items() <= (body["metadata"].get("labels") or {}).items()


def _going(body: Json) -> bool:
    return "deletionTimestamp" in body["metadata"]

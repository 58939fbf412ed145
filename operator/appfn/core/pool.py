"""Pools of warm pods: which functions they serve."""

from appfn.api.function import Function


def fits_pool(function: Function) -> bool:
    """Tell whether a pod of a pool will do for the function: its spec asks for no pod of another kind."""
    spec = function.spec
    asks = (spec.resources, spec.node_selector, spec.tolerations, spec.runtime_class_name)
    return not any(asks)

"""The kinds of objects appfn reads or writes, as the API server addresses them."""

from dataclasses import dataclass
from typing import NamedTuple

from appfn import names


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One REST resource. `group` is empty for the core API."""

    group: str
    version: str
    plural: str
    name: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, or `v1` for the core API."""
        return f"{self.group}/{self.version}" if self.group else self.version


class Key(NamedTuple):
    """Address of an object within its kind; `namespace` is empty for cluster-scoped ones."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Return `namespace/name`, or `name` for a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def _own(plural: str, name: str, *, namespaced: bool = True) -> Kind:
    return Kind(group=names.GROUP, version=names.VERSION, plural=plural, name=name, namespaced=namespaced)


FUNCTION = _own("functions", "Function")
DEPLOYMENT = _own("deployments", "Deployment")
EXECUTION = _own("executions", "Execution")
RUNTIME = _own("runtimes", "Runtime", namespaced=False)

JOB = Kind(group="batch", version="v1", plural="jobs", name="Job")
CRON_JOB = Kind(group="batch", version="v1", plural="cronjobs", name="CronJob")
POOL = Kind(group="apps", version="v1", plural="deployments", name="Deployment")
"""What keeps a pool of warm pods; not to be confused with DEPLOYMENT, which is a version of a function's code."""
POD = Kind(group="", version="v1", plural="pods", name="Pod")
SECRET = Kind(group="", version="v1", plural="secrets", name="Secret")
CONFIG_MAP = Kind(group="", version="v1", plural="configmaps", name="ConfigMap")
EVENT = Kind(group="events.k8s.io", version="v1", plural="events", name="Event")
NAMESPACE = Kind(group="", version="v1", plural="namespaces", name="Namespace", namespaced=False)
NODE = Kind(group="", version="v1", plural="nodes", name="Node", namespaced=False)
LEASE = Kind(group="coordination.k8s.io", version="v1", plural="leases", name="Lease")

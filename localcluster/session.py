"""A command run against a cluster with appfn on it; a cluster made for it is removed after it."""

import os
import subprocess
from collections.abc import Sequence

from localcluster.install import install
from localcluster.providers import Cluster


def session(cluster: Cluster, command: Sequence[str]) -> int:
    """Run ``command`` with APPFN_E2E_KUBECONFIG, _KUBECTL and _AUDIT_LOG set; return its exit code."""
    existed = cluster.exists()
    try:
        cluster.up()
        kubectl = install(cluster)
        environment = os.environ | {
            "APPFN_E2E_KUBECONFIG": str(kubectl.kubeconfig),
            "APPFN_E2E_KUBECTL": str(kubectl.program),
        }
        audit_log = cluster.audit_log()
        if audit_log is not None:
            environment["APPFN_E2E_AUDIT_LOG"] = str(audit_log)
        return subprocess.run(command, env=environment, check=False).returncode
    finally:
        if not existed:
            cluster.down(purge=False)

"""What nobody refers to any more: records of functions that are gone, artifacts that no Deployment and no build names.

Deletions of functions are heard of as they happen; what is swept here is what nobody heard of, because the shim was
down or because a last record came after the purge. Whether something is still wanted is asked of the API server itself,
never of a cache that may lag behind, and always after it was looked up in the store: so it existed before the question.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from appfn.api.kinds import DEPLOYMENT, FUNCTION, NAMESPACE
from appfn.kube.protocols import Reader
from appfn.store.artifacts import ArtifactStore
from appfn.store.executions import ExecutionStore

UNUSED = timedelta(days=7)
"""Age of an artifact that nobody refers to: well beyond any time the operator may be away with a build's report."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """See the module. Several replicas may sweep at the same time."""

    cluster: Reader
    store: ExecutionStore
    artifacts: ArtifactStore
    now: Callable[[], datetime]

    async def sweep_functions(self) -> None:
        """Purge functions that are gone.

        Raises:
            AppfnError: API server or database did not answer; nothing is lost by trying again.
        """
        known = await self.store.functions()
        if not known:
            return
        living = {str(body["metadata"]["uid"]) for body in await self.cluster.list(FUNCTION)}
        for uid in sorted(known - living):
            _logger.info("records of a function that is gone are deleted", extra={"uid": uid})
            await self.store.purge_function(uid)

    async def sweep_artifacts(self) -> None:
        """Delete artifacts that were unused for long; raises as `sweep_functions`."""
        namespaces = await self.artifacts.namespaces()
        if not namespaces:
            return
        living = {str(body["metadata"]["name"]) for body in await self.cluster.list(NAMESPACE)}
        for namespace in sorted(namespaces):
            # What builds of a namespace that is gone have made goes a round later, should it be back by then.
            if namespace in living or not await self.artifacts.forget_builds(namespace):
                await self._sweep(namespace)

    async def _sweep(self, namespace: str) -> None:
        before = self.now() - UNUSED
        old = {
            item.digest async for item in self.artifacts.list_artifacts(namespace) if item.stored_at < before
        } - await self._named_by_deployments(namespace)
        for digest in sorted(old - await self.artifacts.built(namespace) if old else old):
            _logger.info("an unused artifact is deleted", extra={"project": namespace, "digest": digest})
            await self.artifacts.delete(namespace, digest, stored_before=before)

    async def _named_by_deployments(self, namespace: str) -> set[str]:
        """Return every digest that stands anywhere in a Deployment, also in one that we can't make sense of."""
        bodies = await self.cluster.list(DEPLOYMENT, namespace=namespace)
        return {digest for body in bodies for digest in _DIGEST.findall(json.dumps(body))}

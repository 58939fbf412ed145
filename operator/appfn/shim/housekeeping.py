"""What has to go: executions past their retention, all that is known of deleted functions, uploads, leftovers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from appfn.errors import AppfnError, TransientError
from appfn.shim.catalog import Catalog
from appfn.shim.leftovers import Leftovers
from appfn.store.executions import ExecutionStore
from appfn.store.uploads import UploadStore

PERIOD_SECONDS = 600.0
LEFTOVERS_SECONDS = 6 * 3600.0
"""Between two sweeps of leftovers, which read all that is stored of a project."""
BATCH = 500
_PAUSE_SECONDS = 0.1
"""Between two batches, so that calls get their turn at the database."""
_RETRY_SECONDS = 5.0
_logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Housekeeping:
    """Deletes in the background while `running`."""

    store: ExecutionStore
    catalog: Catalog
    leftovers: Leftovers
    uploads: UploadStore
    retention: timedelta
    upload_age: timedelta
    """Of an upload to which nothing was added."""
    now: Callable[[], datetime]
    _gone: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep house while the context is open."""
        self.catalog.on_function_gone(self._gone.put_nowait)
        loops = (
            self._repeat(self.sweep, "old executions", seconds=PERIOD_SECONDS),
            self._repeat(self.sweep_uploads, "unfinished uploads", seconds=PERIOD_SECONDS),
            self._repeat(self.leftovers.sweep_functions, "deleted functions", seconds=LEFTOVERS_SECONDS),
            self._repeat(self.leftovers.sweep_artifacts, "unused artifacts", seconds=LEFTOVERS_SECONDS),
            self._purge_loop(),
        )
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _purge_loop(self) -> None:
        while True:
            uid = await self._gone.get()
            try:
                await self.store.purge_function(uid)
            except TransientError as error:
                _logger.warning("cannot purge a function", extra={"uid": uid, "error": str(error)})
                self._gone.put_nowait(uid)
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                _logger.exception("purging a function failed", extra={"uid": uid})

    async def _repeat(self, sweep: Callable[[], Awaitable[None]], what: str, *, seconds: float) -> None:
        """Sweep now and every so many seconds; sooner after a sweep that failed."""
        while True:
            pause = seconds
            try:
                await sweep()
            except AppfnError as error:
                _logger.warning("cannot delete %s", what, extra={"error": str(error)})
                pause = min(seconds, PERIOD_SECONDS)
            except Exception:
                _logger.exception("deleting %s failed", what)
            await asyncio.sleep(pause)

    async def sweep_uploads(self) -> None:
        """Forget uploads that nobody goes on with, and those that are done."""
        if expired := await self.uploads.expire(self.now() - self.upload_age):
            _logger.info("uploads expired", extra={"uploads": expired})

    async def sweep(self) -> None:
        """Delete what is older than the retention, in small batches."""
        before = self.now() - self.retention
        deleted = BATCH
        while deleted >= BATCH:
            deleted = await self.store.delete_finished_before(before, batch=BATCH)
            await asyncio.sleep(_PAUSE_SECONDS)

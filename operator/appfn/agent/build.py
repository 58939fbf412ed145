"""A whole build as the agent sees it: fetch, let the build command run, upload.

What one step learns, the next is told in this process's memory: the build command shares a volume with us and nothing
else, so that it can spoil its own output, not what we say of it.
"""

import contextlib
from dataclasses import replace

from appfn.agent.command import Command
from appfn.agent.fetch import FetchStep
from appfn.agent.report import Report
from appfn.agent.shim import ShimError
from appfn.agent.upload import UploadStep

HURRY_SECONDS = 1.0
"""What the shim is given for a report that comes by the kubelet as soon anyway."""


def build(fetch: FetchStep) -> Report:
    """Build from what `fetch` brings; return what came of it. Waits for the command as long as it takes."""
    report = _build(fetch)
    if not report.reason:
        # Not of a failure: it may be put down to what only the kubelet knows.
        with contextlib.suppress(ShimError):
            fetch.shim.in_a_hurry(HURRY_SECONDS).post("/internal/v1/build-reports", report.to_json())
    return report


def _build(fetch: FetchStep) -> Report:
    with Command(fetch.layout) as command:
        fetched = fetch.run()
        if fetched.reason or fetched.artifact is not None:
            return fetched
        command.start()
        command.wait()
    upload = UploadStep(settings=fetch.settings, layout=fetch.layout, shim=fetch.shim, fetched=fetch.log.encode())
    return replace(upload.run(), source_digest=fetched.source_digest)

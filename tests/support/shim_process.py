"""The shim as a process of its own, to be killed: real database and API server, functions that only take note.

python -m support.shim_process FOLDER KUBECONFIG SYSTEM_NAMESPACE PORT

Each start of a function is appended to FOLDER/ledger and forced to disk before it "runs".
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from appfn.core.records import Invocation, Outcome
from appfn.kube import client
from appfn.shim.run import serve
from appfn.shim.services import Surroundings
from appfn.telemetry import configure_logging
from support.fake_invoker import FakeInvoker, completed
from support.shim_server import shim_config

RUN_SECONDS = 0.15


def noting(ledger: Path) -> FakeInvoker:
    """Return a dispatcher whose functions write down that they ran."""

    async def answer(invocation: Invocation) -> Outcome:
        descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{invocation.execution_id}\n".encode())
        os.fsync(descriptor)
        os.close(descriptor)
        await asyncio.sleep(RUN_SECONDS)  # a function's run, with time to be killed in
        return completed("done")

    return FakeInvoker(answer)


async def run(folder: Path, kubeconfig: Path, system: str, port: str) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = shim_config(folder, system, EXECUTION_LEASE_SECONDS="2", ASYNC_CONCURRENCY="8", PORT=port)
    async with client.connect(kubeconfig) as cluster:
        await serve(Surroundings(config=config, cluster=cluster, make_invoker=noting(folder / "ledger").make), stop)


if __name__ == "__main__":
    configure_logging("WARNING")
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]))

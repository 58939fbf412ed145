"""`python -m appfn agent serve|build`."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_USAGE = "usage: python -m appfn agent serve|build"


def main(arguments: list[str]) -> int:
    """Run one subcommand with the process's environment; return the exit code."""
    match arguments:
        case ["serve"]:
            return _serve(os.environ)
        case ["build"]:
            return _build(os.environ)
        case _:
            print(_USAGE, file=sys.stderr)
            return 2


def _serve(environ: Mapping[str, str]) -> int:
    from appfn.agent import server  # noqa: PLC0415 - each subcommand starts with what it needs, no more

    return server.run(environ)


def _build(environ: Mapping[str, str]) -> int:
    from appfn.agent.build import build  # noqa: PLC0415
    from appfn.agent.build_settings import BuildSettings  # noqa: PLC0415
    from appfn.agent.failure import AgentError, Reason  # noqa: PLC0415
    from appfn.agent.fetch import FetchStep  # noqa: PLC0415
    from appfn.agent.layout import Layout  # noqa: PLC0415
    from appfn.agent.report import TERMINATION_MESSAGE, Report  # noqa: PLC0415
    from appfn.agent.shim import ShimClient  # noqa: PLC0415

    layout = Layout(Path(environ.get("APPFN_DIR", "/appfn")))
    try:
        settings = BuildSettings.read(environ)
        report = build(FetchStep(settings=settings, layout=layout, shim=ShimClient(url=settings.shim_url)))
    except AgentError as error:
        report = Report.of_failure(error)
    except OSError as error:  # a full volume, most of all: the build's author can do something about it
        report = Report.of_failure(AgentError(Reason.INTERNAL_ERROR, f"the build failed: {error}"))
    report.write(TERMINATION_MESSAGE)
    if report.reason:
        print(f"{report.reason}: {report.message}", file=sys.stderr)
    return 1 if report.reason else 0

"""Command line: ``python3 -m localcluster <command>``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from localcluster import binaries, paths, providers
from localcluster.controlplane import ControlPlane, stop
from localcluster.errors import ClusterError
from localcluster.quickstart import quickstart
from localcluster.session import session
from localcluster.steps import step


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1 means that something is missing, which has been said."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except ClusterError as error:
        print(f"\nlocalcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlocalcluster: interrupted; run the command again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description="A Kubernetes to develop on.")
    parser.add_argument("--name", default=paths.DEFAULT_NAME, help="the cluster's name")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_appfn(commands)
    _add_lifecycle(commands)
    _add_images(commands)
    return parser


def _add_appfn(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    start = commands.add_parser("quickstart", help="a cluster, appfn on it, the samples, an answer")
    start.set_defaults(run=lambda options: quickstart(providers.choose(options.name)))
    run = commands.add_parser("session", help="run a command against a cluster with appfn")
    run.set_defaults(run=lambda options: session(providers.choose(options.name), options.command))
    run.add_argument("command", nargs="+")


def _add_lifecycle(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    up = commands.add_parser("up", help="make the cluster, or repair it")
    up.set_defaults(run=_up)
    up.add_argument("--control-plane-only", action="store_true", help="no nodes, needs no root")
    up.add_argument("--controllers", action="store_true", help="with the controller manager too")
    down = commands.add_parser("down", help="remove the cluster")
    down.set_defaults(run=_down)
    down.add_argument("--control-plane-only", action="store_true")
    down.add_argument("--purge", action="store_true", help="and the Debian packages it brought")
    status = commands.add_parser("status", help="say what runs")
    status.set_defaults(run=_status)
    kubeconfig = commands.add_parser("kubeconfig", help="print the kubeconfig's path")
    kubeconfig.set_defaults(run=_kubeconfig)
    kubeconfig.add_argument("--control-plane-only", action="store_true")
    audit = commands.add_parser("audit-log", help="print the path of the apiserver's audit log")
    audit.set_defaults(run=_audit_log)
    kubectl = commands.add_parser("kubectl-path", help="print the path of a kubectl")
    kubectl.set_defaults(run=lambda _: print(binaries.kubectl()))
    helm = commands.add_parser("helm-path", help="print the path of a Helm")
    helm.set_defaults(run=lambda _: print(binaries.helm()))


def _add_images(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    build = commands.add_parser("build-image", help="build an image unless nothing changed")
    build.set_defaults(run=_build_image)
    build.add_argument("--tag", required=True)
    build.add_argument("--file", type=Path, help="default: CONTEXT/Dockerfile")
    build.add_argument("--force", action="store_true", help="build even if nothing changed")
    build.add_argument("context", type=Path)
    load = commands.add_parser("load-image", help="bring built images into the cluster")
    load.set_defaults(run=_load_image)
    load.add_argument("tag", nargs="+")


def _up(options: argparse.Namespace) -> None:
    if not options.control_plane_only:
        providers.choose(options.name).up()
        return
    layout = paths.private_layout(options.name)
    binaries.ensure(binaries.KUBE)
    with step("etcd, apiserver" + (", controller-manager" if options.controllers else "")):
        ControlPlane.up(layout, controllers=options.controllers)
    print(layout.kubeconfig)


def _down(options: argparse.Namespace) -> None:
    if options.control_plane_only:
        stop(paths.private_layout(options.name))
    else:
        providers.choose(options.name).down(purge=options.purge)


def _status(options: argparse.Namespace) -> None:
    print(providers.choose(options.name).status())


def _kubeconfig(options: argparse.Namespace) -> None:
    if options.control_plane_only:
        print(paths.private_layout(options.name).kubeconfig)
    else:
        print(providers.choose(options.name).kubeconfig)


def _audit_log(options: argparse.Namespace) -> None:
    log = providers.choose(options.name).audit_log()
    if log is None:
        raise ClusterError("this cluster's audit log can't be read here", remedy="use the cluster made without Docker")
    print(log)


def _build_image(options: argparse.Namespace) -> None:
    dockerfile = options.file or options.context / "Dockerfile"
    builder = providers.choose(options.name).builder()
    builder.build(options.tag, dockerfile, options.context, force=options.force)


def _load_image(options: argparse.Namespace) -> None:
    cluster = providers.choose(options.name)
    for tag in options.tag:
        cluster.load(tag)


if __name__ == "__main__":
    sys.exit(main())

"""What the node's programs leave outside the cluster's own directories, fixed in their code."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from localcluster.network import CNI_NAME
from localcluster.paths import Layout

_PLACES = ("/var/lib/kubelet", "/var/log/containers", "/run/containerd", "/var/lib/cni", "/etc/cni", "/opt/containerd")


def absent() -> list[str]:
    """Which of these places don't exist now, so that whatever appears there is ours."""
    return [place for place in _PLACES if not Path(place).exists()]


def remove(layout: Layout, absent_before: Sequence[str]) -> None:
    """Remove our files from these places, and the places that were made for us."""
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(layout.logs):
            link.unlink()
    for result in _cni_results():
        result.unlink(missing_ok=True)
    device_plugins = Path("/var/lib/kubelet/device-plugins")
    if "/var/lib/kubelet" in absent_before:
        for name in ("kubelet.sock", "kubelet_internal_checkpoint", "DEPRECATION"):
            (device_plugins / name).unlink(missing_ok=True)
    if "/etc/cni" in absent_before:
        # Buildah's lock of a network it never uses.
        Path("/etc/cni/net.d/cni.lock").unlink(missing_ok=True)
    for place in absent_before:
        _remove_empty_tree(Path(place))


def remove_if_empty(*directories: Path) -> None:
    """Remove the directories that are empty."""
    for directory in directories:
        try:
            directory.rmdir()
        except OSError:
            # Not there, or in use by another cluster.
            continue


def _cni_results() -> Iterator[Path]:
    """What CNI remembers of our pods: a file for the bridge, and one for the loopback device."""
    directory = Path("/var/lib/cni/results")
    for result in directory.glob(f"{CNI_NAME}-*-eth0"):
        container = result.name.removeprefix(f"{CNI_NAME}-").removesuffix("-eth0")
        yield result
        yield directory / f"cni-loopback-{container}-lo"


def _remove_empty_tree(root: Path) -> None:
    """Remove ``root`` as far as it holds directories only."""
    below = [path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()]
    remove_if_empty(*sorted(below, reverse=True), root)

"""The cluster's own containerd: its images, and the end of all its containers."""

import hashlib
import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from localcluster import commands, processes
from localcluster.paths import Layout
from localcluster.processes import Process

IMAGE_ID_LABEL = "appfn.dev/image-id"

_CGROUPS = Path("/sys/fs/cgroup")
_SHIM_SOCKETS = Path("/run/containerd/s")
_NAMESPACE = "k8s.io"


def ctr(layout: Layout, *arguments: str) -> str:
    """Output of ``ctr`` against the cluster's containerd."""
    return commands.run(["ctr", f"--address={layout.containerd_socket}", f"--namespace={_NAMESPACE}", *arguments])


def answers(layout: Layout) -> bool:
    """Whether containerd serves requests."""
    command = ["ctr", f"--address={layout.containerd_socket}", "--connect-timeout=1s", "version"]
    return layout.containerd_socket.exists() and commands.attempt(command).returncode == 0


def has_image(layout: Layout, tag: str, image_id: str) -> bool:
    """Whether ``tag`` is there and is the very image ``image_id``."""
    condition = f'name=={tag},labels."{IMAGE_ID_LABEL}"=={image_id}'
    return bool(ctr(layout, "images", "ls", "--quiet", condition).strip())


def load_image(layout: Layout, *, archive: Path, tag: str, image_id: str) -> None:
    """Import ``archive`` (as `docker save` writes it), which holds the image ``tag``."""
    ctr(layout, "images", "import", "--platform", "linux", str(archive))
    ctr(layout, "images", "label", tag, f"{IMAGE_ID_LABEL}={image_id}")


def make_cgroup(layout: Layout) -> None:
    """Make the control group below which the kubelet keeps all pods, for cgroup v1 and v2."""
    for hierarchy in _hierarchies():
        group = hierarchy / layout.cgroup.lstrip("/")
        group.mkdir(exist_ok=True)
        if (hierarchy / "cgroup.subtree_control").exists():
            _delegate(hierarchy)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # cgroup v1 starts a cpuset empty, and then no process may enter it.
            if (group / "cpuset.cpu_exclusive").exists() and not (group / setting).read_text().strip():
                (group / setting).write_text((hierarchy / setting).read_text())


def kill_all(layout: Layout) -> None:
    """Kill every container and its supervisor, whether or not containerd still runs."""
    processes.wait_until(lambda: not _kill_members(layout), within=10.0, every=0.05)
    shims = processes.matching(lambda process: is_shim(process, layout.containerd_socket))
    processes.end(shims, grace=0.0)
    for shim in shims:
        (_SHIM_SOCKETS / shim_socket_name(shim)).unlink(missing_ok=True)
    _remove_cgroups(layout)


def is_shim(process: Process, socket: Path) -> bool:
    """Whether ``process`` supervises containers of the containerd that listens on ``socket``."""
    return Path(process.argv[0]).name.startswith("containerd-shim") and str(socket) in process.argv


def shim_socket_name(shim: Process) -> str:
    """Name containerd gives the socket of ``shim`` in a directory common to all containerds."""
    parts = (shim.argv[shim.argv.index(flag) + 1] for flag in ("-address", "-namespace", "-id"))
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def unmount_below(*directories: Path) -> None:
    """Unmount everything at or below ``directories``, the innermost first."""
    points = mount_points(Path("/proc/self/mountinfo").read_text())
    ours = [point for point in points if any(point.is_relative_to(directory) for directory in directories)]
    for point in reversed(ours):
        commands.attempt(["umount", "--lazy", point])


def overlays_work(directory: Path) -> bool:
    """Whether image layers in ``directory`` can be stacked by the kernel: not where it is such a stack itself."""
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    kind = commands.run(["stat", "--file-system", "--format=%T", str(existing)]).strip()
    return kind != "overlayfs" and "\toverlay\n" in Path("/proc/filesystems").read_text()


def mount_points(mountinfo: str) -> list[Path]:
    """The mount points named in a mountinfo, in the order they were mounted."""
    fields = (line.split()[4] for line in mountinfo.splitlines())
    return [Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)) for field in fields]


def _hierarchies() -> list[Path]:
    """Where control groups can be made: one directory in v2, one per controller in v1."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return sorted(entry for entry in _CGROUPS.iterdir() if (entry / "cgroup.procs").exists() and not entry.is_symlink())


def _delegate(hierarchy: Path) -> None:
    for controller in (hierarchy / "cgroup.controllers").read_text().split():
        try:
            (hierarchy / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            # Some controllers can't be enabled while real-time tasks run; the kubelet says if it needs one.
            continue


def _groups(layout: Layout) -> Iterator[Path]:
    """Every control group of ours, children before their parents."""
    for hierarchy in _hierarchies():
        for directory, _, _ in os.walk(hierarchy / layout.cgroup.lstrip("/"), topdown=False):
            yield Path(directory)


def _kill_members(layout: Layout) -> bool:
    """Kill all members of our control groups; whether there were any."""
    members: set[int] = set()
    for group in _groups(layout):
        members.update(map(int, (group / "cgroup.procs").read_text().split()))
    for pid in members:
        processes.send(pid, signal.SIGKILL)
    return bool(members)


def _remove_cgroups(layout: Layout) -> None:
    for group in _groups(layout):
        processes.wait_until(partial(_removed, group), within=2.0)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        # Busy for a moment after its last process died.
        return False
    return True

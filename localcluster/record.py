"""What was chosen for a cluster and what the host looked like before, remembered across runs."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from localcluster.errors import ClusterError


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Choices that must not change while the cluster lives, and what `down` has to restore.

    ``boot`` is the id of the boot in which the packet filter's rules became ours and
    ``sysctls`` was read; after a reboot the kernel has forgotten both.
    """

    node: str
    pod_cidr: str
    service_cidr: str
    ports: dict[str, int]
    boot: str
    sysctls: dict[str, str] = field(default_factory=dict)
    absent_before: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The record at ``path``; None if there is none. Raises ClusterError if it can't be read."""
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ClusterError(f"{path} is damaged", remedy="run `down`, then `up` again") from error

    def write(self, path: Path) -> None:
        """Replace the record at ``path`` as a whole."""
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self), indent=1) + "\n")
        fresh.rename(path)


def boot_id() -> str:
    """Identity of this boot of the kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

"""What all benchmarks share: results, goals, statistics, and the cluster they run against."""

import math
import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.e2e import make_key, new_project
from support.kubectl import Kubectl

ROOT = Path(__file__).parents[1]
SYSTEM = "appfn-system"
SHIM = "statefulset/appfn-shim"
_PERCENT = 100


class SkippedError(Exception):
    """A benchmark cannot be run here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure should be, in its unit, or as a ratio to its baseline."""

    limit: float
    at_least: bool = False
    of_baseline: bool = False

    def met(self, value: float, ratio: float | None) -> bool | None:
        """Tell whether it is; None where there is no baseline to judge by."""
        judged = ratio if self.of_baseline else value
        if judged is None:
            return None
        return judged >= self.limit if self.at_least else judged <= self.limit

    def text(self, unit: str) -> str:
        """Return it as the table shows it."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:g} of baseline" if self.of_baseline else f"{sign} {self.limit:,g} {unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One figure."""

    name: str
    unit: str
    value: float
    baseline: float | None = None
    """What it is compared with, measured in the same run and in the same unit."""
    against: str = ""
    """What the baseline is."""
    n: int = 1
    """Samples behind the value."""
    spread: tuple[float, float] | None = None
    """Quartiles of the samples, or the least and greatest of repeated rounds."""
    goal: Goal | None = None

    @property
    def ratio(self) -> float | None:
        """Value to baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        return self.goal.met(self.value, self.ratio) if self.goal else None

    def to_json(self) -> dict[str, Any]:
        """Return it as results.json holds it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "value": _rounded(self.value),
            "baseline": _rounded(self.baseline),
            "against": self.against,
            "ratio": _rounded(self.ratio),
            "n": self.n,
            "spread": [_rounded(end) for end in self.spread] if self.spread else None,
            "goal": self.goal.text(self.unit) if self.goal else None,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Context:
    """What benchmarks are given; what needs a cluster says so when it is asked for without one."""

    short: bool = False
    """Few samples: to see that it works, not for figures."""

    def few(self, normal: int, short: int) -> int:
        """Return how many samples to take."""
        return short if self.short else normal

    @property
    def admin(self) -> Kubectl:
        """Kubectl with all rights."""
        if "APPFN_E2E_KUBECONFIG" not in os.environ:
            raise SkippedError("no cluster given: run `make bench`")
        return Kubectl(program=os.environ["APPFN_E2E_KUBECTL"], kubeconfig=Path(os.environ["APPFN_E2E_KUBECONFIG"]))

    @property
    def system(self) -> Kubectl:
        """Kubectl in appfn's own namespace."""
        return self.admin.within(SYSTEM)

    @property
    def shim_address(self) -> tuple[str, int]:
        """The shim as a client in the cluster reaches it: by its Service's address, no port-forward between."""
        spec = self.system.get("service", "appfn-shim")["spec"]
        return str(spec["clusterIP"]), int(spec["ports"][0]["port"])

    @property
    def shim_metrics(self) -> str:
        """URL of the metrics of the shim's one pod: no Service leads there."""
        [pod] = self.system.list("pods", "-l", "app.kubernetes.io/name=appfn-shim")
        return f"http://{pod['status']['podIP']}:9090/metrics"

    @property
    def node_address(self) -> str:
        """Address of this machine as pods see it."""
        node = self.admin.list("nodes")[0]
        return next(str(item["address"]) for item in node["status"]["addresses"] if item["type"] == "InternalIP")

    @contextmanager
    def project(self) -> "Iterator[tuple[Kubectl, str]]":
        """Yield a new project and an API key that may execute and read executions."""
        with new_project(self.admin) as project:
            yield project, make_key(project, "executions.write", "executions.read")

    @contextmanager
    def shim_environment(self, **variables: str) -> Iterator[None]:
        """Let the shim run with other settings for a while, and then with those it had."""
        container = self.system.get("statefulset", "appfn-shim")["spec"]["template"]["spec"]["containers"][0]
        before = {item["name"]: item.get("value", "") for item in container.get("env", [])}
        names = [f"APPFN_{name}" for name in variables]
        self._set([f"APPFN_{name}={value}" for name, value in variables.items()])
        try:
            yield
        finally:
            self._set([f"{name}={before[name]}" if name in before else f"{name}-" for name in names])

    def _set(self, changes: list[str]) -> None:
        self.system("set", "env", SHIM, *changes)
        self.system("rollout", "status", SHIM, "--timeout=120s", timeout=130)


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of the samples do not exceed (nearest rank)."""
    ordered = sorted(samples)
    rank = math.ceil(percent / _PERCENT * len(ordered))
    return ordered[max(0, rank - 1)]


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """Return where the middle half of the samples lies."""
    return percentile(samples, 25), percentile(samples, 75)


def extremes(samples: Sequence[float]) -> tuple[float, float]:
    """Return the least and the greatest."""
    return min(samples), max(samples)


def median(samples: Sequence[float]) -> float:
    """Return the middle one."""
    return statistics.median(samples)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")

"""What Prometheus reads at /metrics: counted where it happens, gauges asked for when they are read."""

from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from appfn.api.execution import ExecutionPhase, FailureReason, Trigger
from appfn.core.records import ExecutionRequest, Outcome
from appfn.shim.ports import Invoker
from appfn.shim.tallies import Cell, Tally

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 900)


class Metrics:
    """One registry for one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Tally(
            counter=("appfn_http_requests", "HTTP requests answered."),
            histogram=("appfn_http_request_seconds", "Time to answer HTTP requests."),
            labels=("method", "route", "status"),
            shared=2,
            bounds=_SECONDS,
        )
        self._accepted = Counter(
            "appfn_executions_accepted",
            "Executions committed to the queue.",
            ("namespace", "trigger"),
            registry=self.registry,
        )
        self._executions = Tally(
            counter=("appfn_executions", "Executions that ended here."),
            histogram=("appfn_execution_run_seconds", "Run time of the functions' own code."),
            labels=("namespace", "trigger", "status", "reason"),
            shared=1,
            bounds=_SECONDS,
        )
        for tally in (self._requests, self._executions):
            self.registry.register(tally)
        self._cold_starts = Counter(
            "appfn_cold_starts", "Executions that had to wait for a new pod.", ("namespace",), registry=self.registry
        )
        self.events = EventMetrics(self.registry)
        # What is found by text for every call, found once.
        self._answered: dict[tuple[str, str, int], Cell] = {}
        self._finished: dict[tuple[str, Trigger, ExecutionPhase, FailureReason | None], Cell] = {}

    def answered(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one HTTP request. `route` is its pattern, never its path: labels must be few."""
        key = method, route, status
        if (cell := self._answered.get(key)) is None:
            cell = self._answered[key] = self._requests.cell(method, route, str(status))
        cell.add(seconds)

    def accepted(self, request: ExecutionRequest) -> None:
        """Count one execution committed to the queue."""
        self._accepted.labels(request.namespace, request.trigger.value).inc()

    def finished(self, request: ExecutionRequest, outcome: Outcome) -> None:
        """Count one execution that ended."""
        reason = outcome.failure.reason if outcome.failure else None
        key = request.namespace, request.trigger, outcome.phase, reason
        if (cell := self._finished.get(key)) is None:
            labels = request.namespace, request.trigger.value, outcome.phase.value, reason.value if reason else ""
            cell = self._finished[key] = self._executions.cell(*labels)
        cell.add(outcome.duration)
        if outcome.cold_start:
            self._cold_starts.labels(request.namespace).inc()

    def watch_invoker(self, invoker: Invoker) -> None:
        """Show the dispatcher's pods, queues and counters too."""
        self.registry.register(_InvokerCollector(invoker))

    def render(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self.registry)


class EventMetrics:
    """What became of events, by where they came from: `cloudevents`, `webhook` or `own`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("namespace", "source")
        self._received = Counter("appfn_events_received", "Events that came in.", labels, registry=registry)
        self._matched = Counter(
            "appfn_events_matched", "Executions accepted because of an event.", labels, registry=registry
        )
        self._duplicates = Counter(
            "appfn_events_deduplicated",
            "Executions that an event asked for again and did not get twice.",
            labels,
            registry=registry,
        )
        self._lost = Counter(
            "appfn_events_lost", "Events of functions that could not be stored.", ("namespace",), registry=registry
        )

    def told(self, namespace: str, source: str, *, events: int, new: int, duplicates: int) -> None:
        """Count events that are safely stored: how many, and the executions that were new or there already."""
        self._received.labels(namespace, source).inc(events)
        self._matched.labels(namespace, source).inc(new)
        self._duplicates.labels(namespace, source).inc(duplicates)

    def lost(self, namespace: str) -> None:
        """Count an event of our own that could not be stored."""
        self._lost.labels(namespace).inc()


class _InvokerCollector(Collector):
    def __init__(self, invoker: Invoker) -> None:
        self._invoker = invoker

    def describe(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        return iter(())  # names are known only when asked; there is nothing to check for duplicates

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        labels = ("namespace", "function")
        pods = GaugeMetricFamily("appfn_pods", "Runtime pods by state.", labels=(*labels, "state"))
        queued = GaugeMetricFamily("appfn_queue_depth", "Calls that wait for a pod.", labels=labels)
        running = GaugeMetricFamily("appfn_calls_in_flight", "Calls that run.", labels=labels)
        for key, now in self._invoker.functions().items():
            for state, count in (("ready", now.ready), ("starting", now.starting), ("draining", now.draining)):
                pods.add_metric((*key, state), count)
            queued.add_metric(key, now.queued)
            running.add_metric(key, now.in_flight)
        yield from (pods, queued, running)
        for name, value in asdict(self._invoker.counters()).items():
            yield CounterMetricFamily(f"appfn_dispatcher_{name}", f"Dispatcher: {name} since start.", value=value)

"""What the API answers with, as data: each model's fields. The OpenAPI document and GraphQL's types are made of it.

The functions that make the models are beside their resources; a test holds both together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Shape(Enum):
    """What a field holds, in JSON's words."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    ANY = "any"
    """Whatever JSON there is; no model of the current format has one."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a model; never null.

    Attributes:
        name: on the wire.
        holds: a shape, or the name of a model.
        about: one sentence for people.
        many: whether it is a list of them.
        choices: the only strings there are, where not empty.
    """

    name: str
    holds: Shape | str
    about: str
    many: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model.

    Attributes:
        name: as SDKs call it.
        fields: of the current format, each of them always there.
        older: those that formats before it have instead, which GraphQL clients may still select.
    """

    name: str
    fields: tuple[Field, ...]
    older: tuple[Field, ...] = ()


def models() -> Mapping[str, Model]:
    """Return every model by name."""
    return {model.name: model for model in _ALL}


def _text(name: str, about: str, *choices: str) -> Field:
    return Field(name, Shape.STRING, about, choices=choices)


def _texts(name: str, about: str) -> Field:
    return Field(name, Shape.STRING, about, many=True)


def _whole(name: str, about: str) -> Field:
    return Field(name, Shape.INTEGER, about)


def _flag(name: str, about: str) -> Field:
    return Field(name, Shape.BOOLEAN, about)


def _page(name: str, of: str, many: str) -> Model:
    counted = _whole("total", f"How many {many} match, on all pages.")
    return Model(name=name, fields=(counted, Field(many, of, f"Those {many} that are on this page.", many=True)))


_ENVELOPE = (
    _text("$id", "Its id."),
    _text("$createdAt", "When it was made, as ISO 8601."),
    _text("$updatedAt", "When it last changed, as ISO 8601."),
)

_HEADER = Model(name="headers", fields=(_text("name", "The header's name."), _text("value", "The header's value.")))

_EXECUTION = Model(
    name="execution",
    fields=(
        *_ENVELOPE,
        _texts("$permissions", "Who may read it."),
        _text("functionId", "The function that ran."),
        _text("resourceId", "The function that ran."),
        _text("resourceType", "What ran; always a function.", "functions"),
        _text("deploymentId", "The deployment that ran; empty while none has."),
        _text("trigger", "What made it run.", "http", "schedule", "event"),
        _text("status", "How far it is.", "waiting", "processing", "completed", "failed", "scheduled"),
        _text("requestMethod", "The method the function saw."),
        _text("requestPath", "The path the function saw."),
        Field("requestHeaders", "headers", "Headers the function saw, those that hold no credentials.", many=True),
        _whole("responseStatusCode", "The function's status; 0 while there is none."),
        _text("responseBody", "What the function answered."),
        Field("responseHeaders", "headers", "Headers the function answered with.", many=True),
        _text("logs", "What the function logged; blank for clients."),
        _text("errors", "What the function logged as errors; blank for clients."),
        Field("duration", Shape.NUMBER, "Seconds the function ran."),
        _text("scheduledAt", "When it is to run, as ISO 8601; empty for at once."),
    ),
    older=(
        _whole("statusCode", "`responseStatusCode` before 1.4."),
        _text("response", "`responseBody` before 1.4."),
        _text("stdout", "`logs` before 1.4."),
        _text("stderr", "`errors` before 1.4."),
    ),
)

_VARIABLE = Model(
    name="variable",
    fields=(
        *_ENVELOPE,
        _text("key", "The name functions know it by."),
        _text("value", "Its value; empty where it is secret."),
        _flag("secret", "Whether the value is never told."),
        _text("resourceType", "What it belongs to.", "function"),
        _text("resourceId", "The function it belongs to."),
    ),
    older=(_text("functionId", "`resourceId` before 1.4."),),
)

_PROVIDER_TEXTS = ("installationId", "providerRepositoryId", "providerBranch", "providerRootDirectory")

_FUNCTION = Model(
    name="function",
    fields=(
        *_ENVELOPE,
        _texts("execute", "Roles of those who may run it."),
        _text("name", "Its name for people."),
        _flag("enabled", "Whether it runs at all."),
        _flag("live", "Whether its deployment was built with the function's present configuration."),
        _flag("logging", "Whether executions keep logs and errors."),
        _text("runtime", "The runtime that builds and runs it."),
        _whole("deploymentRetention", "Days that deployments which are not active are kept; 0 for always."),
        _text("deploymentId", "The deployment that runs; empty for none."),
        _text("deploymentCreatedAt", "When that one was made, as ISO 8601."),
        _text("latestDeploymentId", "The newest deployment; empty for none."),
        _text("latestDeploymentCreatedAt", "When that one was made, as ISO 8601."),
        _text("latestDeploymentStatus", "How far that one is."),
        _texts("scopes", "Scopes of the key its executions get."),
        Field("vars", "variable", "Its variables.", many=True),
        _texts("events", "Events that run it."),
        _text("schedule", "When it runs by itself, as cron writes it; empty for never."),
        _whole("timeout", "Seconds an execution may take."),
        _text("entrypoint", "The file that holds the function."),
        _text("commands", "The command that builds it."),
        _text("version", "The version of the protocol its runtime speaks."),
        *(_text(name, "Of version control, which appfn has not: empty.") for name in _PROVIDER_TEXTS),
        _flag("providerSilentMode", "Of version control, which appfn has not: false."),
        _texts("providerBranches", "Of version control, which appfn has not: empty."),
        _texts("providerPaths", "Of version control, which appfn has not: empty."),
        _text("buildSpecification", "The size of machine that builds it."),
        _text("runtimeSpecification", "The size of machine that runs it."),
    ),
    older=(
        _text("deployment", "`deploymentId` before 1.7."),
        _text("specification", "`runtimeSpecification` before 1.9."),
        _text("scheduleNext", "When it runs next, before 1.4."),
        _text("schedulePrevious", "When it ran last, before 1.4."),
    ),
)

_COMMIT_TEXTS = (
    "providerRepositoryName",
    "providerRepositoryOwner",
    "providerRepositoryUrl",
    "providerCommitHash",
    "providerCommitAuthorUrl",
    "providerCommitAuthor",
    "providerCommitMessage",
    "providerCommitUrl",
    "providerBranch",
    "providerBranchUrl",
)

_DEPLOYMENT = Model(
    name="deployment",
    fields=(
        *_ENVELOPE,
        _text("type", "How its source came."),
        _text("resourceId", "The function it is of."),
        _text("resourceType", "What it is of; always a function.", "functions"),
        _text("entrypoint", "The file that holds the function."),
        _whole("sourceSize", "Bytes of its source."),
        _whole("buildSize", "Bytes of what was built."),
        _whole("totalSize", "Bytes of both."),
        _text("buildId", "Its build."),
        _flag("activate", "Whether it was to be activated once built."),
        _text("screenshotLight", "Of sites, which appfn has not: empty."),
        _text("screenshotDark", "Of sites, which appfn has not: empty."),
        _text("status", "How far it is.", "waiting", "processing", "building", "ready", "canceled", "failed"),
        _text("buildLogs", "What the build printed."),
        _whole("buildDuration", "Seconds the build took."),
        *(_text(name, "Of version control, which appfn has not: empty.") for name in _COMMIT_TEXTS),
    ),
    older=(
        _whole("size", "`sourceSize` before 1.7."),
        _whole("buildTime", "`buildDuration` before 1.7."),
        _text("buildStdout", "`buildLogs` before 1.4."),
        _text("buildStderr", "What the build printed as errors, before 1.4."),
    ),
)

_RUNTIME = Model(
    name="runtime",
    fields=(
        _text("$id", "Its id."),
        _text("key", "The language's id."),
        _text("name", "The language's name for people."),
        _text("version", "The language's version."),
        _text("base", "The image it is made from."),
        _text("image", "The image it is."),
        _text("logo", "The name of its picture."),
        _texts("supports", "Architectures it is there for."),
    ),
)

_SPECIFICATION = Model(
    name="specification",
    fields=(
        _whole("memory", "MB of memory."),
        Field("cpus", Shape.NUMBER, "Processors, or a part of one."),
        _flag("enabled", "Whether it can be chosen."),
        _text("slug", "Its id."),
    ),
)

_ALL = (
    _HEADER,
    _EXECUTION,
    _page("executionList", "execution", "executions"),
    _FUNCTION,
    _page("functionList", "function", "functions"),
    _DEPLOYMENT,
    _page("deploymentList", "deployment", "deployments"),
    _VARIABLE,
    _page("variableList", "variable", "variables"),
    _RUNTIME,
    _page("runtimeList", "runtime", "runtimes"),
    _SPECIFICATION,
    _page("specificationList", "specification", "specifications"),
)

"""What the API answers with, as data: each model's fields. The OpenAPI document and GraphQL's types are made of it.

The functions that make the models are beside their resources; a test holds both together.
"""

from collections.abc import Iterator, Mapping

from appfn.shim.rest.shape import Field, Model, Shape, flag, page, sometimes, text, texts, whole


def models() -> Mapping[str, Model]:
    """Return every model by name."""
    return {model.name: model for model in _ALL}


_ENVELOPE = (
    text("$id", "Its id."),
    text("$createdAt", "When it was made, as ISO 8601."),
    text("$updatedAt", "When it last changed, as ISO 8601."),
)

_HEADER = Model(name="headers", fields=(text("name", "The header's name."), text("value", "The header's value.")))

_EXECUTION = Model(
    name="execution",
    fields=(
        *_ENVELOPE,
        texts("$permissions", "Who may read it."),
        text("functionId", "The function that ran."),
        text("resourceId", "The function that ran."),
        text("resourceType", "What ran; always a function.", "functions"),
        text("deploymentId", "The deployment that ran; empty while none has."),
        text("trigger", "What made it run.", "http", "schedule", "event"),
        text("status", "How far it is.", "waiting", "processing", "completed", "failed", "scheduled"),
        text("requestMethod", "The method the function saw."),
        text("requestPath", "The path the function saw."),
        Field("requestHeaders", "headers", "Headers the function saw, those that hold no credentials.", many=True),
        whole("responseStatusCode", "The function's status; 0 while there is none."),
        text("responseBody", "What the function answered."),
        Field("responseHeaders", "headers", "Headers the function answered with.", many=True),
        text("logs", "What the function logged; blank for clients."),
        text("errors", "What the function logged as errors; blank for clients."),
        Field("duration", Shape.NUMBER, "Seconds the function ran."),
        text("scheduledAt", "When it is to run, as ISO 8601; empty for at once."),
        text("replayOf", "The execution that it repeats; empty for none. appfn's own."),
    ),
    older=(
        whole("statusCode", "`responseStatusCode` before 1.4."),
        text("response", "`responseBody` before 1.4."),
        text("stdout", "`logs` before 1.4."),
        text("stderr", "`errors` before 1.4."),
    ),
)

_VARIABLE = Model(
    name="variable",
    fields=(
        *_ENVELOPE,
        text("key", "The name functions know it by."),
        text("value", "Its value; empty where it is secret."),
        text("description", "What it is for; appfn keeps none: empty."),
        flag("secret", "Whether the value is never told."),
        text("resourceType", "What it belongs to.", "function"),
        text("resourceId", "The function it belongs to."),
    ),
    older=(text("functionId", "`resourceId` before 1.4."),),
)

_PROVIDER_TEXTS = ("installationId", "providerRepositoryId", "providerBranch", "providerRootDirectory")

_FUNCTION = Model(
    name="function",
    fields=(
        *_ENVELOPE,
        texts("execute", "Roles of those who may run it."),
        text("name", "Its name for people."),
        text("description", "What it is for."),
        flag("enabled", "Whether it runs at all."),
        flag("live", "Whether its deployment was built with the function's present configuration."),
        flag("logging", "Whether executions keep logs and errors."),
        text("runtime", "The runtime that builds and runs it."),
        whole("deploymentRetention", "Days that deployments which are not active are kept; 0 for always."),
        text("deploymentId", "The deployment that runs; empty for none."),
        text("deploymentCreatedAt", "When that one was made, as ISO 8601."),
        text("latestDeploymentId", "The newest deployment; empty for none."),
        text("latestDeploymentCreatedAt", "When that one was made, as ISO 8601."),
        text("latestDeploymentStatus", "How far that one is."),
        texts("scopes", "Scopes of the key its executions get."),
        Field("vars", "variable", "Its variables.", many=True),
        texts("events", "Events that run it."),
        text("schedule", "When it runs by itself, as cron writes it; empty for never."),
        text("scheduleNext", "When it runs next, as ISO 8601; empty for never."),
        text("schedulePrevious", "When it ran last by its schedule, as ISO 8601; empty for never."),
        whole("interval", "Of schedules by interval, which appfn has not: 0."),
        whole("timeout", "Seconds an execution may take."),
        text("entrypoint", "The file that holds the function."),
        text("commands", "The command that builds it."),
        text("version", "The version of the protocol its runtime speaks."),
        *(text(name, "Of version control, which appfn has not: empty.") for name in _PROVIDER_TEXTS),
        flag("providerSilentMode", "Of version control, which appfn has not: false."),
        texts("providerBranches", "Of version control, which appfn has not: empty."),
        texts("providerPaths", "Of version control, which appfn has not: empty."),
        text("buildSpecification", "The size of machine that builds it."),
        text("runtimeSpecification", "The size of machine that runs it."),
        flag("emailEnabled", "Of functions run by mail, which appfn has not: false."),
    ),
    older=(
        text("deployment", "`deploymentId` before 1.7."),
        text("specification", "`runtimeSpecification` before 1.9."),
    ),
)

_COMMIT_TEXTS = (
    "installationId",
    "providerRepositoryId",
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
        text("type", "How its source came."),
        text("resourceId", "The function it is of."),
        text("resourceType", "What it is of; always a function.", "functions"),
        text("entrypoint", "The file that holds the function."),
        whole("sourceSize", "Bytes of its source."),
        whole("buildSize", "Bytes of what was built."),
        whole("totalSize", "Bytes of both."),
        text("buildId", "Its build."),
        flag("activate", "Whether it was to be activated once built."),
        text("screenshotLight", "Of sites, which appfn has not: empty."),
        text("screenshotDark", "Of sites, which appfn has not: empty."),
        text("status", "How far it is.", "waiting", "processing", "building", "ready", "canceled", "failed"),
        text("buildLogs", "What the build printed."),
        whole("buildDuration", "Seconds the build took."),
        *(text(name, "Of version control, which appfn has not: empty.") for name in _COMMIT_TEXTS),
        sometimes(whole("chunksUploaded", "Parts of its source that have come, while it is uploaded.")),
        sometimes(whole("chunksTotal", "Parts that its source has, while it is uploaded.")),
    ),
    older=(
        whole("size", "`sourceSize` before 1.7."),
        whole("buildTime", "`buildDuration` before 1.7."),
        text("buildStdout", "`buildLogs` before 1.4."),
        text("buildStderr", "What the build printed as errors, before 1.4."),
    ),
)

_RUNTIME = Model(
    name="runtime",
    fields=(
        text("$id", "Its id."),
        text("key", "The language's id."),
        text("name", "The language's name for people."),
        text("version", "The language's version."),
        text("base", "The image it is made from."),
        text("image", "The image it is."),
        text("logo", "The name of its picture."),
        texts("supports", "Architectures it is there for."),
    ),
)

_SPECIFICATION = Model(
    name="specification",
    fields=(
        whole("memory", "MB of memory."),
        Field("cpus", Shape.NUMBER, "Processors, or a part of one."),
        flag("enabled", "Whether it can be chosen."),
        text("slug", "Its id."),
    ),
)

_METRIC = Model(
    name="metric",
    fields=(
        Field("value", Shape.LARGE, "How much in that hour or day."),
        text("date", "When the hour or day begins, as ISO 8601."),
    ),
)

_USED = {
    "executions": "executions",
    "executionsTime": "milliseconds of executions",
    "executionsMbSeconds": "MB-seconds of executions",
    "executionsFailed": "executions that failed",
    "builds": "builds",
    "buildsSuccess": "builds that succeeded",
    "buildsFailed": "builds that failed",
    "buildsTime": "milliseconds of builds",
    "buildsMbSeconds": "MB-seconds of builds",
    "buildsStorage": "bytes of built artifacts",
    "deployments": "deployments",
    "deploymentsStorage": "bytes of sources",
}


def _usage(used: Mapping[str, str]) -> Iterator[Field]:
    yield text("range", "How far it looks back.", "24h", "7d", "30d", "90d")
    for name, what in used.items():
        yield Field(name, "metric", f"By hour or day: {what}.", many=True)
        yield Field(f"{name}Total", Shape.LARGE, f"All together: {what}.")
    yield whole("buildsTimeAverage", "Milliseconds of a build on average.")


_OLD_USAGE = tuple(
    Field(name, "metric", "Before 1.4.", many=True)
    for name in ("executionsFailure", "executionsSuccess", "buildsFailure")
)

_RECEIPT = (
    Model(
        name="eventExecution",
        fields=(
            text("functionId", "The function that runs."),
            text("executionId", "Its execution."),
            flag("duplicate", "Whether the event came before, and this is the execution of that time."),
        ),
    ),
    Model(name="eventSkip", fields=(text("functionId", "The function that does not run."), text("reason", "Why not."))),
    Model(
        name="eventReceipt",
        fields=(
            text("id", "The event's id."),
            text("source", "Where it is from."),
            text("event", "Appwrite's name of it."),
            Field("executions", "eventExecution", "What it executes.", many=True),
            Field("skipped", "eventSkip", "Functions that subscribe to it and do not run.", many=True),
        ),
    ),
    page("eventReceiptList", "eventReceipt", "events"),
)

_TEMPLATE = Model(
    name="templateFunction",
    fields=(text("id", "Its id."), text("name", "Its name for people.")),
)

_ALL = (
    _METRIC,
    Model(name="usageFunction", fields=tuple(_usage(_USED)), older=_OLD_USAGE),
    Model(name="usageFunctions", fields=tuple(_usage(_USED | {"functions": "functions"})), older=_OLD_USAGE),
    _HEADER,
    _EXECUTION,
    page("executionList", "execution", "executions"),
    _FUNCTION,
    page("functionList", "function", "functions"),
    _DEPLOYMENT,
    page("deploymentList", "deployment", "deployments"),
    _VARIABLE,
    page("variableList", "variable", "variables"),
    _RUNTIME,
    page("runtimeList", "runtime", "runtimes"),
    _SPECIFICATION,
    page("specificationList", "specification", "specifications"),
    *_RECEIPT,
    _TEMPLATE,
    page("templateFunctionList", "templateFunction", "templates"),
)

"""`/v1/graphql`: each operation of a query is admitted and run as REST does it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson
from aiohttp import web
from graphql import ExecutionResult, GraphQLError, GraphQLSchema, OperationType, execute, get_operation_ast

from appfn.api.base import Json
from appfn.config import ShimConfig
from appfn.shim import access_log, http
from appfn.shim.auth.identity import Caller
from appfn.shim.callee import Project
from appfn.shim.errors import AppwriteError, Problem, error_of
from appfn.shim.formats import Format
from appfn.shim.graphql import asked, schema
from appfn.shim.graphql.asked import Asked
from appfn.shim.graphql.limits import Limits, RefusedError, read
from appfn.shim.middleware import REQUEST_ID
from appfn.shim.rest.admission import format_of, identify
from appfn.shim.rest.arguments import validated
from appfn.shim.rest.operation import Context, Operation
from appfn.shim.services import AUTH, CONFIG, RATE_LIMIT

SCHEMA = web.AppKey("graphql_schema", GraphQLSchema)
_AT_ONCE = 8
"""Operations of one request that run at the same time; mutations run one after the other."""
_MAX_ANSWER = 33_554_432
"""Bytes of models that the operations of one request may come to."""
_ONLY_READS = "GET runs queries only: send mutations by POST."


def add_to(app: web.Application, operations: Iterable[Operation]) -> None:
    """Serve GraphQL over these operations."""
    app[SCHEMA] = schema.build(operations)
    app.router.add_get("/v1/graphql", get, allow_head=False)
    app.router.add_post("/v1/graphql", post)
    app.router.add_post("/v1/graphql/mutation", post)


async def get(request: web.Request) -> web.Response:
    """Run the query of the URL."""
    session = await _session(request)
    return http.reply(await session.answer(asked.of_url(request.query), only_reads=True))


async def post(request: web.Request) -> web.Response:
    """Run the query or queries of the body; several are answered by a list."""
    session = await _session(request)
    answers = [await session.answer(one) for one in await _asked(request)]
    return http.reply(answers if len(answers) > 1 else answers[0])


async def _session(request: web.Request) -> "_Session":
    project, caller = await identify(request)
    request.app[RATE_LIMIT].count(request, project, caller, what="graphql")
    return _Session(request=request, project=project, caller=caller, format=max(format_of(request), Format.V1_0))


async def _asked(request: web.Request) -> list[Asked]:
    batch_size = request.app[CONFIG].graphql_batch_size
    match request.content_type:
        case "application/graphql":
            return [asked.of_text(await http.read_body(request))]
        case "multipart/form-data":
            content_type = request.headers["Content-Type"]
            return asked.of_form(await http.read_body(request), content_type, batch_size=batch_size)
        case _:
            return asked.of_json(http.parse_value(await http.read_body(request)), batch_size=batch_size)


@dataclass(slots=True, kw_only=True)
class _Session:
    """One request: who asks, and what of its bounds is left."""

    request: web.Request
    project: Project
    caller: Caller
    format: Format
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    left: int = _MAX_ANSWER

    async def answer(self, asked: Asked, *, only_reads: bool = False) -> Json:
        """Return `data` and `errors` of a query."""
        app = self.request.app
        try:
            document = read(asked.query, asked.variables, schema=app[SCHEMA], limits=_limits(app[CONFIG]))
        except RefusedError as refused:
            return {"errors": [self._shown(error) for error in refused.errors]}
        operation = get_operation_ast(document, asked.operation_name)
        if only_reads and operation is not None and operation.operation is not OperationType.QUERY:
            return {"errors": [self._shown(GraphQLError(_ONLY_READS))]}
        done = execute(
            app[SCHEMA],
            document,
            context_value=self,
            variable_values=asked.variables,
            operation_name=asked.operation_name,
        )
        return self._content(done if isinstance(done, ExecutionResult) else await done)

    async def call(self, operation: Operation, arguments: Json) -> Json | None:
        """Run an operation as REST would, by the same caller with the same rights."""
        async with self.room:
            await self.request.app[AUTH].authorize(self.caller, operation.access, self.project)
            answer = await operation.run(
                Context(
                    app=self.request.app,
                    request=self.request,
                    project=self.project,
                    caller=self.caller,
                    format=self.format,
                    arguments=validated(operation, arguments),
                )
            )
            self._take(answer.content)
            return answer.content

    def _take(self, content: Json | None) -> None:
        """Raise general_payload_too_large where the answers are more than one may hold."""
        self.left -= len(orjson.dumps(content))
        if self.left < 0:
            raise AppwriteError(Problem.PAYLOAD_TOO_LARGE, "The answer is too large: ask for less at once.")

    def _content(self, result: ExecutionResult) -> Json:
        found: Json = {"data": result.data} if result.data is not None or not result.errors else {}
        if result.errors:
            found["errors"] = [self._shown(error) for error in result.errors]
        return found

    def _shown(self, error: GraphQLError) -> Json:
        """Return an error as clients see it: with Appwrite's status and type, and nothing of ours."""
        shown = {**error.formatted}
        problem = AppwriteError(Problem.ARGUMENT_INVALID, error.message)
        if error.path is not None:  # raised by an operation, not by what was asked
            cause = error.original_error or error
            problem = error_of(cause)
            access_log.note_bug(cause, problem, self.request[REQUEST_ID])
        extensions = {"code": problem.problem.status, "type": problem.problem.type}
        return shown | {"message": problem.message, "extensions": extensions}


def _limits(config: ShimConfig) -> Limits:
    return Limits(
        depth=config.graphql_depth,
        complexity=config.graphql_complexity,
        introspection=bool(config.graphql_introspection),
    )

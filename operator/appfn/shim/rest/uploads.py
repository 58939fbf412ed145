"""The upload of a deployment: in one request, or in parts that come in any order, at once, again, to any replica.

What is said with the part that begins an upload holds for the whole of it. Whoever brings the last part makes the
Deployment; several may believe they did, and its name, which follows from the upload's id, lets one of them do it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from appfn.api.base import Json
from appfn.api.deployment import Artifact, Deployment
from appfn.api.function import Function
from appfn.errors import QueueFullError
from appfn.shim import content_range, deployments, forms, http, models_deployments
from appfn.shim.auth.access import DEPLOYMENT_CREATE
from appfn.shim.content_range import Part
from appfn.shim.errors import AppwriteError, Problem, invalid_argument
from appfn.shim.formats import Format
from appfn.shim.forms import Form
from appfn.shim.ids import new_id
from appfn.shim.models_deployments import View
from appfn.shim.rest.admission import admit, format_of
from appfn.shim.rest.arguments import validated
from appfn.shim.rest.operation import Answer, Context, Operations, Parameter, Type, path
from appfn.shim.services import ARTIFACTS, CATALOG, CONFIG, SPOOL_ROOM, SURROUNDINGS, UPLOADS
from appfn.store.objects import ArtifactNotFoundError, ArtifactTooLargeError, Spooled
from appfn.store.uploads import Found, Upload

ID_HEADER = "X-Appwrite-ID"
_FILE = "code"
_GZIP = b"\x1f\x8b"
_FORM_BYTES = 1_048_576
"""What a form may hold beside its file."""
_FULL_SECONDS = 60.0
_ENTRYPOINT = re.compile(r"[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*(/[A-Za-z0-9_.@+-]+)*", re.ASCII)
_MAX_ENTRYPOINT = 255
_NO_UPLOAD = "There is no upload with the ID of X-Appwrite-ID: it has expired, or never began. Begin it without an ID."

operations = Operations()


async def receive(request: web.Request) -> web.Response:
    """Take in a file or a part of one."""
    project, caller = await admit(request, DEPLOYMENT_CREATE)
    context = Context(
        app=request.app,
        request=request,
        project=project,
        caller=caller,
        format=format_of(request),
        arguments=dict(request.match_info),
    )
    answer = await create(context)
    return http.reply(answer.content, status=answer.status)


@operations.add(
    "functions.createDeployment",
    "POST /functions/{functionId}/deployments",
    access=DEPLOYMENT_CREATE,
    parameters=(
        path("functionId"),
        Parameter(name="entrypoint", max_length=1028, about="The file to run; else the function's, or the runtime's."),
        Parameter(name="commands", max_length=8192, about="What builds the code; else the function's or runtime's."),
        Parameter(name=_FILE, type=Type.FILE, required=True, about="A gzip tarball; in parts with Content-Range."),
        Parameter(name="activate", type=Type.BOOLEAN, required=True, about="Whether calls go to it once it is ready."),
    ),
    returns="deployment",
    status=202,
    route=receive,
    graphql=False,
)
async def create(context: Context) -> Answer:
    """Create a deployment of a tarball."""
    app, request = context.app, context.request
    function = app[CATALOG].function(context.project, context.text("functionId"))
    most = app[CONFIG].max_source_bytes
    part = content_range.parse(request.headers.get(content_range.HEADER), limit=most)
    known = await _known(context, function, part) if part is not None else None
    limit = part.size if part is not None else most
    try:
        with _room(request, limit):
            async with forms.received(request, app[ARTIFACTS].objects, name=_FILE, limit=limit) as form:
                shown = await _taken(context, function, form, part, known)
    except ArtifactTooLargeError as error:
        raise (_mismatch(part) if part is not None else content_range.too_large(most)) from error
    status = 201 if context.format is Format.V0 else 202
    return Answer(content=models_deployments.model(shown, context.format), status=status)


@contextmanager
def _room(request: web.Request, limit: int) -> Iterator[None]:
    """Hold the disk space that a form may take.

    Raises:
        AppwriteError: storage_invalid_file_size, where it says that it is larger.
        QueueFullError: others leave no room for it.
    """
    length = request.content_length
    if length is not None and length > limit + _FORM_BYTES:
        raise content_range.too_large(limit)
    taken = request.app[SPOOL_ROOM].take(limit if length is None else min(length, limit))
    try:
        yield
    finally:
        request.app[SPOOL_ROOM].give_back(taken)


async def _known(context: Context, function: Function, part: Part) -> Found | None:
    """Return the upload that a part says it belongs to; None where it begins one."""
    id_ = context.request.headers.get(ID_HEADER)
    if not id_:
        return None
    found = await context.app[UPLOADS].find(context.project.namespace, id_)
    if found is None or found.upload.function_uid != function.metadata.uid:
        raise AppwriteError(Problem.DEPLOYMENT_NOT_FOUND, _NO_UPLOAD)
    if found.upload.size != part.total:
        message = f"The upload began with a size of {found.upload.size} bytes, this part says {part.total}."
        raise AppwriteError(Problem.INVALID_CONTENT_RANGE, message)
    return found


async def _taken(context: Context, function: Function, form: Form, part: Part | None, known: Found | None) -> View:
    file = _checked(form, part)
    if known is not None and known.done:
        return _shown(function, await deployments.read(context.app, function, known.upload.id), known.upload)
    if part is None:
        upload = _upload(context, function, form, size=file.size)
        artifact = await context.app[ARTIFACTS].keep(context.project.namespace, file)
        return _shown(function, await _make(context, function, upload, artifact), upload)
    upload = known.upload if known is not None else await _begun(context, function, form, part)
    return await _added(context, function, upload, part, file)


def _checked(form: Form, part: Part | None) -> Spooled:
    """Return the form's file where it can be a gzip tarball, or the part it says it is."""
    if form.file is None:
        raise AppwriteError(Problem.FILE_EMPTY, "No file sent")
    if form.file.size == 0:
        raise AppwriteError(Problem.FILE_EMPTY)
    if form.filename.rpartition(".")[2].lower() != "gz":
        raise AppwriteError(Problem.FILE_TYPE_UNSUPPORTED)
    if part is not None and form.file.size != part.size:
        raise _mismatch(part)
    if (part is None or part.place == 0) and form.file.head != _GZIP:
        raise AppwriteError(Problem.FILE_TYPE_UNSUPPORTED, "The file is not compressed with gzip.")
    return form.file


def _mismatch(part: Part) -> AppwriteError:
    return AppwriteError(
        Problem.INVALID_CONTENT_RANGE, f"Content-Range promises {part.size} bytes, the file has another size."
    )


def _upload(context: Context, function: Function, form: Form, *, size: int) -> Upload:
    """Return what the form says, with the function's own where it says nothing."""
    arguments = _arguments(form, context)
    now = context.app[SURROUNDINGS].now()
    return Upload(
        id=new_id(now),
        function_uid=function.metadata.uid,
        size=size,
        entrypoint=_entrypoint(context, function, str(arguments.get("entrypoint", ""))),
        commands=str(arguments.get("commands", "")) or function.spec.commands,
        activate=bool(arguments["activate"]),
        created_at=now,
    )


def _arguments(form: Form, context: Context) -> Json:
    operation = next(iter(operations))
    arguments = validated(operation, {**form.fields, _FILE: form.filename, **context.arguments})
    if "\0" in str(arguments.get("commands", "")):
        raise invalid_argument("commands", "Value must not hold a NUL character")
    return arguments


def _entrypoint(context: Context, function: Function, given: str) -> str:
    if not given:
        runtime = context.app[CATALOG].runtime(function.spec.runtime)
        if not function.spec.entrypoint and runtime is not None and not runtime.spec.entrypoint:
            raise AppwriteError(Problem.ENTRYPOINT_MISSING)
        return function.spec.entrypoint
    dots = {".", ".."}.intersection(given.split("/"))
    if dots or len(given) > _MAX_ENTRYPOINT or not _ENTRYPOINT.fullmatch(given):
        raise invalid_argument("entrypoint", "Value must be a path in the archive, such as src/index.js")
    return given


async def _begun(context: Context, function: Function, form: Form, part: Part) -> Upload:
    """Begin an upload in parts.

    Raises:
        QueueFullError: the project has too many that are not done.
    """
    uploads, config, namespace = context.app[UPLOADS], context.app[CONFIG], context.project.namespace
    upload = _upload(context, function, form, size=part.total)
    others = await uploads.unfinished(namespace)
    if len(others) >= config.max_uploads or sum(other.size for other in others) + part.total > config.max_uploads_bytes:
        message = "The project has too many unfinished uploads: finish or delete some, or wait until they expire."
        raise QueueFullError(message, retry_after=_FULL_SECONDS)
    await uploads.begin(namespace, upload)
    return upload


async def _added(context: Context, function: Function, upload: Upload, part: Part, file: Spooled) -> View:
    """Add a part; with the last one make the Deployment."""
    uploads, namespace = context.app[UPLOADS], context.project.namespace
    await uploads.add(namespace, upload, part.place, file)
    found = await uploads.find(namespace, upload.id)
    if found is None:
        raise AppwriteError(Problem.DEPLOYMENT_NOT_FOUND, _NO_UPLOAD)
    if found.done:
        return _shown(function, await deployments.read(context.app, function, upload.id), upload)
    if not found.whole:
        return models_deployments.upload_view(found, function_id=function.appwrite_id)
    try:
        artifact = await uploads.assemble(namespace, upload)
    except ArtifactNotFoundError:  # who brought another part at the same time has done it
        return _shown(function, await deployments.read(context.app, function, upload.id), upload)
    deployment = await _make(context, function, upload, artifact)
    await uploads.finish(namespace, upload)
    return _shown(function, deployment, upload)


async def _make(context: Context, function: Function, upload: Upload, artifact: Artifact) -> Deployment:
    return await deployments.create(
        context.app,
        function,
        id_=upload.id,
        source={"artifact": artifact.to_json()},
        entrypoint=upload.entrypoint,
        commands=upload.commands,
        activate=upload.activate,
    )


def _shown(function: Function, deployment: Deployment, upload: Upload) -> View:
    parts = (upload.parts, upload.parts)
    return models_deployments.view(deployment, function_id=function.appwrite_id, parts=parts)

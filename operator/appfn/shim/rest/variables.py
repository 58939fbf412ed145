"""The public routes of variables: create, list, get, update, delete."""

from appfn.api.base import Json
from appfn.api.function import Function
from appfn.shim import function_variables, variable_writes
from appfn.shim.auth.access import FUNCTION_GET, FUNCTION_UPDATE
from appfn.shim.errors import AppwriteError, Problem
from appfn.shim.formats import Format
from appfn.shim.function_variables import Edit, Edits, Known
from appfn.shim.rest import function_models, listing
from appfn.shim.rest.function_arguments import resource_id
from appfn.shim.rest.operation import Answer, Context, Operations, Parameter, Type, path
from appfn.shim.rest.variable_arguments import MAX_KEY, MAX_VARIABLES, checked_name, checked_value, new_id
from appfn.shim.services import CATALOG, SURROUNDINGS

_ATTRIBUTES = {name: name for name in ("$id", "$createdAt", "$updatedAt", "key", "secret")}
_SECRET = Parameter(name="secret", type=Type.BOOLEAN, about="Never show the value; true from 1.7 on.")

operations = Operations()


@operations.add(
    "functions.createVariable",
    "POST /functions/{functionId}/variables",
    access=FUNCTION_UPDATE,
    parameters=(
        path("functionId"),
        Parameter(name="variableId", max_length=36, about="Its id; `unique()` or nothing for a new one."),
        Parameter(name="key", required=True, max_length=MAX_KEY, about="Its name."),
        Parameter(name="value", required=True, about="Its value, at most 8192 characters."),
        _SECRET,
    ),
    returns="variable",
    status=201,
)
async def create(context: Context) -> Answer:
    """Create a variable of a function."""
    function, now = _function(context), context.app[SURROUNDINGS].now()
    name, value = checked_name(context.text("key")), checked_value(context.text("value"))
    given = context.text("variableId")
    id_ = resource_id("variableId", given) if given else new_id()
    secret = bool(context.arguments.get("secret", context.format >= Format.V1_7))
    edit = Edit(id=id_, secret=secret, created_at=now, updated_at=now, stored=variable_writes.new_key(id_))

    def edits(current: Function) -> Edits:
        if any(item.name == name or item.id == id_ for item in function_variables.known(current)):
            raise AppwriteError(Problem.VARIABLE_ALREADY_EXISTS)
        return {name: edit}

    edits(function)
    function = await variable_writes.write(context.app, function, {str(edit.stored): value}, edits)
    return Answer(content=await _model(context, function, id_), status=201)


@operations.add(
    "functions.listVariables",
    "GET /functions/{functionId}/variables",
    access=FUNCTION_GET,
    parameters=(path("functionId"), *listing.PARAMETERS),
    returns="variableList",
)
async def list_(context: Context) -> Answer:
    """Return the variables of a function: all of them, unless a query asks for less."""
    function = _function(context)
    known = function_variables.known(function)
    values = await variable_writes.values_of(context.app, function, known)
    items = [function_models.variable(item, function.appwrite_id, values.get(item.name, "")) for item in known]
    page = listing.page(
        items,
        context.arguments,
        plural="variables",
        attributes=_ATTRIBUTES,
        searched=("$id", "key"),
        show=lambda whole: function_models.shown_variable(whole, context.format),
        limit=MAX_VARIABLES,
    )
    return Answer(content=page)


@operations.add(
    "functions.getVariable",
    "GET /functions/{functionId}/variables/{variableId}",
    access=FUNCTION_GET,
    parameters=(path("functionId"), path("variableId")),
    returns="variable",
)
async def get(context: Context) -> Answer:
    """Return one variable."""
    return Answer(content=await _model(context, _function(context), context.text("variableId")))


@operations.add(
    "functions.updateVariable",
    "PUT /functions/{functionId}/variables/{variableId}",
    access=FUNCTION_UPDATE,
    parameters=(
        path("functionId"),
        path("variableId"),
        Parameter(name="key", max_length=MAX_KEY, about="Its name; as it is where left out."),
        Parameter(name="value", about="Its value; as it is where left out."),
        _SECRET,
    ),
    returns="variable",
)
async def update(context: Context) -> Answer:
    """Change a variable."""
    function, id_ = _function(context), context.text("variableId")
    inline = _by_id(function, id_).value  # a value in the Function itself moves, too
    given = context.arguments.get("value")
    value = checked_value(str(given)) if given is not None else inline
    stored = variable_writes.new_key(id_) if value is not None else None

    def edits(current: Function) -> Edits:
        return _edits(context, current, stored)

    edits(function)
    values = {stored: value} if stored is not None and value is not None else {}
    function = await variable_writes.write(context.app, function, values, edits)
    return Answer(content=await _model(context, function, id_))


@operations.add(
    "functions.deleteVariable",
    "DELETE /functions/{functionId}/variables/{variableId}",
    access=FUNCTION_UPDATE,
    parameters=(path("functionId"), path("variableId")),
    status=204,
)
async def delete(context: Context) -> Answer:
    """Delete a variable."""
    id_ = context.text("variableId")
    await variable_writes.write(context.app, _function(context), {}, lambda current: {_by_id(current, id_).name: None})
    return Answer(status=204)


def _edits(context: Context, current: Function, stored: str | None) -> Edits:
    """Return the change of a variable as it is now: what is left out stays, whatever our catalog says of it."""
    known, secret = _by_id(current, context.text("variableId")), context.arguments.get("secret")
    if known.secret and known.stored and secret is False:
        raise AppwriteError(Problem.VARIABLE_CANNOT_UNSET_SECRET)
    now = context.app[SURROUNDINGS].now()
    edit = Edit(
        id=known.id,
        secret=known.secret if secret is None else bool(secret),
        created_at=known.created_at or now,
        updated_at=now,
        stored=stored if "value" in context.arguments or known.value is not None else None,
        was=known.name,
    )
    name = checked_name(context.text("key", known.name))
    if name == known.name:
        return {name: edit}
    if any(item.name == name for item in function_variables.known(current)):
        raise AppwriteError(Problem.VARIABLE_ALREADY_EXISTS)
    return {known.name: None, name: edit}


def _function(context: Context) -> Function:
    return context.app[CATALOG].function(context.project, context.text("functionId"))


def _by_id(function: Function, id_: str) -> Known:
    found = next((item for item in function_variables.known(function) if item.id == id_), None)
    if found is None:
        raise AppwriteError(Problem.VARIABLE_NOT_FOUND)
    return found


async def _model(context: Context, function: Function, id_: str) -> Json:
    known = _by_id(function, id_)
    values = await variable_writes.values_of(context.app, function, [known])
    whole = function_models.variable(known, function.appwrite_id, values.get(known.name, ""))
    return function_models.shown_variable(whole, context.format)

"""The GraphQL schema, pure: made from the table of operations and the models.

A GET is a query, all else a mutation. `functions.createExecution` is `functionsCreateExecution`, `$id` is `_id`.
"""

from collections.abc import Awaitable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, assert_never

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLField,
    GraphQLFloat,
    GraphQLInputType,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
)

from appfn.api.base import Json
from appfn.shim.rest import schemas
from appfn.shim.rest.operation import Operation, Parameter, Type
from appfn.shim.rest.shape import Field, Model, Shape

JSON = GraphQLScalarType("Json", description="Any JSON value.")
LISTED_BY = "queries"
"""The parameter that makes an operation a list, whose fields count once for each item it may hold."""
_NOTHING = "None"


class Caller(Protocol):
    """What a query is executed with, GraphQL's context."""

    def call(self, operation: Operation, arguments: Json) -> Awaitable[Json | None]:
        """Run an operation; return its model."""


def build(operations: Iterable[Operation]) -> GraphQLSchema:
    """Return the schema of those operations that GraphQL has."""
    types = _types()
    queries: dict[str, GraphQLField] = {}
    mutations: dict[str, GraphQLField] = {}
    for operation in operations:
        if operation.graphql:
            fields = queries if operation.method == "GET" else mutations
            fields[field_name(operation)] = _operation(operation, types)
    return GraphQLSchema(GraphQLObjectType("Query", queries), GraphQLObjectType("Mutation", mutations))


def field_name(operation: Operation) -> str:
    """Return an operation's name in GraphQL: `functionsCreateExecution`."""
    namespace, _, method = operation.name.partition(".")
    return namespace + method[:1].upper() + method[1:]


def _operation(operation: Operation, types: Mapping[str, GraphQLObjectType]) -> GraphQLField:
    async def resolve(_source: object, info: GraphQLResolveInfo[Any], **arguments: Any) -> Json:
        caller: Caller = info.context
        return await caller.call(operation, arguments) or {}

    return GraphQLField(
        types[operation.returns or _NOTHING],
        args={item.name: _argument(item) for item in operation.parameters},
        resolve=resolve,
        description=operation.summary,
    )


def _argument(parameter: Parameter) -> GraphQLArgument:
    type_ = _input(parameter.type)
    return GraphQLArgument(GraphQLNonNull(type_) if parameter.required else type_, description=parameter.about or None)


def _input(type_: Type) -> GraphQLScalarType | GraphQLList[GraphQLInputType]:
    match type_:
        case Type.STRING:
            return GraphQLString
        case Type.INTEGER:
            return GraphQLInt
        case Type.BOOLEAN:
            return GraphQLBoolean
        case Type.STRINGS:
            return GraphQLList(GraphQLNonNull(GraphQLString))
        case Type.OBJECT:
            return JSON
        case Type.FILE:
            raise ValueError("GraphQL takes no files: declare the operation with graphql=False")
        case _:
            assert_never(type_)


def _types() -> Mapping[str, GraphQLObjectType]:
    """Return the object types by model. Fields of all formats are in them, so that any may be null."""
    done = GraphQLField(GraphQLString, resolve=lambda _source, _info: "OK", description="That it was done.")
    types = {_NOTHING: GraphQLObjectType(_NOTHING, {"status": done})}
    for model in schemas.models().values():
        name = model.name[:1].upper() + model.name[1:]
        types[model.name] = GraphQLObjectType(name, partial(_fields, model, types))
    return types


def _fields(model: Model, types: Mapping[str, GraphQLObjectType]) -> dict[str, GraphQLField]:
    return {field.name.replace("$", "_"): _field(field, types) for field in (*model.fields, *model.older)}


def _field(field: Field, types: Mapping[str, GraphQLObjectType]) -> GraphQLField:
    def resolve(source: Json, _info: GraphQLResolveInfo[Any]) -> Any:
        value = source.get(field.name)
        return (
            value if isinstance(value, list) is field.many else None
        )  # another format has something else by that name

    held = types[field.holds] if isinstance(field.holds, str) else _output(field.holds)
    return GraphQLField(GraphQLList(held) if field.many else held, resolve=resolve, description=field.about)


def _output(shape: Shape) -> GraphQLOutputType:
    match shape:
        case Shape.STRING:
            return GraphQLString
        case Shape.INTEGER:
            return GraphQLInt
        case Shape.NUMBER | Shape.LARGE:
            return GraphQLFloat
        case Shape.BOOLEAN:
            return GraphQLBoolean
        case _:
            assert_never(shape)

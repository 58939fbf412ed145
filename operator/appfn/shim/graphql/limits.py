"""What a query may cost, pure: read, checked, counted as Appwrite's server counts, before anything of it runs.

Costly checks come after the cheap ones that bound them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
    specified_rules,
    validate,
    value_from_ast_untyped,
    visit,
)
from graphql.language import Visitor

from appfn.api.base import Json
from appfn.shim import queries
from appfn.shim.errors import AppwriteError
from appfn.shim.graphql.schema import LISTED_BY

MAX_LENGTH = 100_000
"""Characters of a query; what is long belongs into variables."""
MAX_TOKENS = 4000
_MAX_ERRORS = 10
_META = frozenset({"__schema", "__type"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is allowed.

    Attributes:
        depth: levels of objects below the operations.
        complexity: fields, those of a list as often as it may have items.
        introspection: whether the schema may be asked for.
    """

    depth: int
    complexity: int
    introspection: bool


def read(text: str, variables: Mapping[str, Any], *, schema: GraphQLSchema, limits: Limits) -> DocumentNode:
    """Return a query as a document that may be executed.

    Raises:
        RefusedError: it may not.
    """
    try:
        return _read(text, variables, schema, limits)
    except GraphQLError as error:
        raise RefusedError([error]) from error
    except RecursionError as error:
        raise RefusedError([GraphQLError("The query is nested too deeply.")]) from error


def _read(text: str, variables: Mapping[str, Any], schema: GraphQLSchema, limits: Limits) -> DocumentNode:
    document = parse(text, max_source_length=MAX_LENGTH, max_lexical_tokens=MAX_TOKENS)
    _bound("complexity", _written(document), limits.complexity)
    rules = specified_rules if limits.introspection else [*specified_rules, NoSchemaIntrospectionCustomRule]
    if errors := validate(schema, document, rules, max_errors=_MAX_ERRORS):
        raise RefusedError(errors)
    fragments, lists = _fragments(document), _lists(schema)
    for operation in _operations(document):
        count = _Count(fragments, lists, _defaults(operation) | dict(variables))
        _bound("depth", count.depth(operation.selection_set) - 1, limits.depth)
        _bound("complexity", count.complexity(operation.selection_set), limits.complexity)
    return document


class RefusedError(Exception):
    """A query that is not executed.

    Attributes:
        errors: why.
    """

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


def _bound(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise GraphQLError(f"Max query {what} should be {limit} but got {count}.")


def _written(document: DocumentNode) -> int:
    """Return how many fields a document has as it is written; to compare them with each other takes their square."""
    counter = _Counter()
    visit(document, counter)
    return counter.fields


class _Counter(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.fields = 0

    def enter_field(self, *_: Any) -> None:
        self.fields += 1


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    found = (node for node in document.definitions if isinstance(node, FragmentDefinitionNode))
    return {node.name.value: node for node in found}


def _lists(schema: GraphQLSchema) -> frozenset[str]:
    fields = schema.query_type.fields if schema.query_type else {}
    return frozenset(name for name, field in fields.items() if LISTED_BY in field.args)


def _defaults(operation: OperationDefinitionNode) -> dict[str, Any]:
    return {
        definition.variable.name.value: value_from_ast_untyped(definition.default_value)
        for definition in operation.variable_definitions or ()
        if definition.default_value is not None
    }


def _operations(document: DocumentNode) -> Iterator[OperationDefinitionNode]:
    return (node for node in document.definitions if isinstance(node, OperationDefinitionNode))


@dataclass(frozen=True, slots=True)
class _Count:
    """Counts a valid document, whose fragments have no cycles; each fragment once, however often it is used."""

    fragments: Mapping[str, FragmentDefinitionNode]
    lists: frozenset[str]
    variables: dict[str, Any]
    _depths: dict[str, int] = field(default_factory=dict)
    _complexities: dict[str, int] = field(default_factory=dict)

    def depth(self, selected: SelectionSetNode) -> int:
        """Return how many levels of fields that have fields themselves there are."""
        return max((self._depth(node) for node in selected.selections), default=0)

    def _depth(self, node: Any) -> int:
        match node:
            case FieldNode(selection_set=SelectionSetNode() as selected) if node.name.value not in _META:
                return 1 + self.depth(selected)
            case InlineFragmentNode():
                return self.depth(node.selection_set)
            case FragmentSpreadNode():
                name = node.name.value
                if name not in self._depths:
                    self._depths[name] = self.depth(self.fragments[name].selection_set)
                return self._depths[name]
            case _:
                return 0

    def complexity(self, selected: SelectionSetNode) -> int:
        """Return how many fields there are, aliases included."""
        return sum(self._complexity(node) for node in selected.selections)

    def _complexity(self, node: Any) -> int:
        match node:
            case FieldNode(selection_set=SelectionSetNode() as selected) if node.name.value not in _META:
                below = self.complexity(selected)
                items = self._items(node)
                return below + 1 if items is None else below * items
            case InlineFragmentNode():
                return self.complexity(node.selection_set)
            case FragmentSpreadNode():
                name = node.name.value
                if name not in self._complexities:
                    self._complexities[name] = self.complexity(self.fragments[name].selection_set)
                return self._complexities[name]
            case _:
                return 1

    def _items(self, node: FieldNode) -> int | None:
        """Return how many items a list may have; None for what is none."""
        if node.name.value not in self.lists:
            return None
        arguments = node.arguments or ()
        given = {item.name.value: value_from_ast_untyped(item.value, self.variables) for item in arguments}
        texts, limit = given.get(LISTED_BY), given.get("limit")
        listed = texts if isinstance(texts, list) else [texts]
        known: Json = {LISTED_BY: [text for text in listed if isinstance(text, str)]}
        if isinstance(limit, int):
            known["limit"] = limit
        try:
            return queries.asked(known).limit
        except AppwriteError:
            return queries.DEFAULT_LIMIT  # it will not run either

"""What of GraphQL is refused before it runs."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from graphql import get_introspection_query

from appfn.shim.auth.access import FUNCTION_DELETE, FUNCTION_GET, FUNCTION_LIST
from appfn.shim.graphql import schema
from appfn.shim.graphql.limits import Limits, RefusedError, read
from appfn.shim.rest import listing
from appfn.shim.rest.operation import Answer, Context, Operations, path

LIMITS = Limits(depth=3, complexity=250, introspection=False)
NEGATIVE = json.dumps('{"method":"limit","values":[-100]}')
OPERATIONS = Operations()


@OPERATIONS.add(
    "functions.get", "GET /f/{functionId}", access=FUNCTION_GET, parameters=(path("functionId"),), returns="function"
)
@OPERATIONS.add(
    "functions.list",
    "GET /f",
    access=FUNCTION_LIST,
    parameters=listing.PARAMETERS,
    returns="functionList",
)
@OPERATIONS.add(
    "functions.delete", "DELETE /f/{functionId}", access=FUNCTION_DELETE, parameters=(path("functionId"),), status=204
)
async def nothing(_context: Context) -> Answer:
    """Do nothing."""
    return Answer()


SCHEMA = schema.build(OPERATIONS)


def refusal(text: str, variables: Mapping[str, Any] | None = None, limits: Limits = LIMITS) -> str:
    """Return why a query is refused; empty where it is not."""
    try:
        read(text, variables or {}, schema=SCHEMA, limits=limits)
    except RefusedError as refused:
        return str(refused)
    return ""


def fields(count: int) -> str:
    return " ".join(f"a{number}: name" for number in range(count))


def test_names_are_namespace_and_method() -> None:
    assert SCHEMA.query_type is not None
    assert SCHEMA.mutation_type is not None
    assert set(SCHEMA.query_type.fields) == {"functionsGet", "functionsList"}
    assert set(SCHEMA.mutation_type.fields) == {"functionsDelete"}


def test_an_operation_that_graphql_does_not_have_is_not_in_the_schema() -> None:
    hidden = (replace(operation, graphql=operation.name != "functions.get") for operation in OPERATIONS)

    query = schema.build(hidden).query_type
    assert query is not None
    assert set(query.fields) == {"functionsList"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ functionsGet(functionId: 1) { name } }", "String cannot represent"),
        ("{ functionsGet { name } }", "argument 'Query.functionsGet(functionId:)' of type"),
        ('{ functionsGet(functionId: "f") { nam } }', "Cannot query field 'nam'"),
        ('{ functionsGet(functionId: "f") }', "must have a selection of subfields"),
        ('{ functionsDelete(functionId: "f") { status } }', "Cannot query field"),
        ("{", "Syntax Error"),
        ("{ ...a } fragment a on Query { ...a }", "Cannot spread fragment 'a' within itself"),
        ("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }", "Cannot spread fragment 'a'"),
        ("{ __schema { types { name } } }", "introspection"),
        ("{ " + "[" * 2000, "Syntax Error"),
        ("{ functionsGet(functionId: " + "[" * 1900 + "]" * 1900 + ") { name } }", "nested too deeply"),
        ("{ " + "a " * 5000 + "}", "Document contains more"),
        ("#" + "x" * 100_001, "Syntax Error"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(query: str, message: str) -> None:
    assert message.lower() in refusal(query).lower()


def test_three_levels_of_objects_below_an_operation_are_allowed() -> None:
    nested = "{ functionsList { functions { vars { key } } } }"

    assert refusal(nested, limits=Limits(depth=2, complexity=250, introspection=False)) == ""
    assert refusal(nested, limits=Limits(depth=1, complexity=250, introspection=False)) == (
        "Max query depth should be 1 but got 2."
    )


def test_fragments_do_not_hide_depth() -> None:
    hidden = (
        "{ functionsList { ...list ... on FunctionList { total } } } "
        "fragment list on FunctionList { functions { vars { key } } }"
    )

    assert "depth" in refusal(hidden, limits=Limits(depth=1, complexity=250, introspection=False))


def test_every_field_counts_aliases_too() -> None:
    assert refusal(f'{{ functionsGet(functionId: "f") {{ {fields(249)} }} }}') == ""
    assert refusal(f'{{ functionsGet(functionId: "f") {{ {fields(250)} }} }}') == (
        "Max query complexity should be 250 but got 251."
    )


@pytest.mark.parametrize(
    ("query", "counted"),
    [
        ("{ functionsList { total } }", 25),
        ("{ functionsList(limit: 50) { total } }", 50),
        ("query q($given: [String!], $n: Int = 40) { functionsList(queries: $given, limit: $n) { total } }", 60),
        ("query q($n: Int = 40) { functionsList(queries: [], limit: $n) { total } }", 40),
        ('{ functionsList(queries: ["limit(50)"]) { total } }', 50),
        ('{ functionsList(queries: "limit(50)") { total } }', 50),
        ('{ functionsList(queries: ["limit(3)", "limit(50)"]) { total } }', 50),
        ('{ functionsList(queries: ["{\\"method\\":\\"limit\\",\\"values\\":[50]}"]) { total } }', 50),
        ("query q($given: [String!]) { functionsList(queries: $given) { total } }", 60),
        ("query q($absent: [String!]) { functionsList(queries: $absent) { total } }", 25),
        ('query q($absent: [String!] = ["limit(70)"]) { functionsList(queries: $absent) { total } }', 70),
        ('{ a: functionsList(queries: ["limit(-100)"]) { total } b: functionsList { total } }', 50),
        (f"{{ a: functionsList(queries: {NEGATIVE}) {{ total }} b: functionsList {{ total }} }}", 50),
    ],
)
def test_a_field_of_a_list_counts_once_for_each_item_it_may_have(query: str, counted: int) -> None:
    limits = Limits(depth=3, complexity=4, introspection=False)

    message = refusal(query, {"given": ["limit(60)"]}, limits)

    assert message == f"Max query complexity should be 4 but got {counted}."


def test_fragments_that_multiply_are_counted_without_being_expanded() -> None:
    bombs = " ".join(f"fragment f{n} on Query {{ ...f{n + 1} ... on Query {{ ...f{n + 1} }} }}" for n in range(60))
    last = 'fragment f60 on Query { functionsGet(functionId: "f") { name } }'
    started = time.perf_counter()

    assert "complexity" in refusal(f"{{ ...f0 }} {bombs} {last}")
    assert time.perf_counter() - started < 5


def test_fields_that_must_be_compared_with_each_other_are_few_enough() -> None:
    same = " ".join('a: functionsGet(functionId: "f") { name }' for _ in range(125))
    started = time.perf_counter()

    assert refusal(f"{{ {same} }}") == ""
    assert time.perf_counter() - started < 5


def test_the_schema_may_be_asked_for_where_that_is_allowed() -> None:
    assert refusal(get_introspection_query(), limits=Limits(depth=3, complexity=250, introspection=True)) == ""

"""Many rows of one table, with what SQLAlchemy works out for each row worked out once."""

from functools import lru_cache

from sqlalchemy import ColumnElement, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite


@lru_cache(maxsize=16)
def insert(dialect: Dialect, table: Table, columns: tuple[str, ...], *, sequence: ColumnElement[int]) -> str:
    """Return the statement that inserts rows, unless they are there, in the words of the driver.

    Its parameters are the columns, given in the table's order; the database finds the column `sequence` itself.
    """
    into = insert_into(dialect.name, table)
    statement = into.values({**dict.fromkeys(columns), "sequence": sequence}).on_conflict_do_nothing()
    compiled = statement.compile(dialect=dialect)
    assert compiled.positiontup == list(columns), "both drivers take parameters by position"
    return str(compiled)


def insert_into(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that knows ON CONFLICT, of a dialect by its name."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)

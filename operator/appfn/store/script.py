"""Statements that need no answers, run together: one visit to SQLite's thread instead of several for each."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from appfn.store import sqlite


class Statement(NamedTuple):
    """A statement in the words of the driver, with its parameters in order."""

    sql: str
    parameters: Sequence[tuple[Any, ...]] = ((),)
    """It is run once for each."""


Script: TypeAlias = Sequence[Statement]
"""What is run in its order, in one transaction."""


async def run(connection: AsyncConnection, script: Script) -> None:
    """Run a script in the transaction that is under way."""
    if connection.dialect.name == "sqlite":
        await sqlite.run(connection, script)
        return
    for statement in script:
        await connection.exec_driver_sql(statement.sql, list(statement.parameters))

"""The process that runs scripts on a file of SQLite: `python -m appfn.store.script_server FILE`.

Its input and output are messages: four bytes of length, and MessagePack. In: a script, as a list of statements with
their sets of parameters. Out: nothing, or the name and the text of an error. It ends where its input does, once it is
done with what it was given. It imports next to nothing, to be small and soon there.
"""

import signal
import sqlite3
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, TypeAlias

import msgspec

from appfn.store import pragmas

LENGTH: Final = struct.Struct("<I")
"""What each message begins with."""
Answer: TypeAlias = tuple[str, str] | None
"""The name of an error's class, of `sqlite3` as a rule, and its text; None when the script is committed."""
_Statements: TypeAlias = Sequence[tuple[str, Sequence[Sequence[Any]]]]


def main() -> None:
    """Run the scripts that come, until no more can come."""
    for number in (signal.SIGINT, signal.SIGTERM):  # who sends scripts says when there are no more
        signal.signal(number, signal.SIG_IGN)
    _serve(sys.argv[1], sys.stdin.buffer, sys.stdout.buffer)


def _serve(path: str, scripts: BinaryIO, answers: BinaryIO) -> None:
    connection: sqlite3.Connection | None = None
    while (message := _received(scripts)) is not None:
        answer: Answer = None
        try:
            connection = connection or _opened(path)
            _run(connection, msgspec.msgpack.decode(message))
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever sent the script has to deal with it
            answer = type(error).__name__, str(error)
            connection = _settled(connection)
        del message  # it may be large, and the next one may be long in coming
        content = msgspec.msgpack.encode(answer)
        answers.write(LENGTH.pack(len(content)) + content)
        answers.flush()


def _received(scripts: BinaryIO) -> bytes | None:
    """Return the next message; None where none comes, or only a part of one: it was never said to be done."""
    head = scripts.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    [length] = LENGTH.unpack(head)
    content = scripts.read(length)
    return content if len(content) == length else None


def _opened(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in pragmas.WRITER:
            connection.execute(pragma)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _run(connection: sqlite3.Connection, script: _Statements) -> None:
    """Run a script in a transaction of its own, which is left open where it fails."""
    connection.execute("BEGIN IMMEDIATE")
    for statement, parameters in script:
        connection.executemany(statement, parameters)
    connection.execute("COMMIT")


def _settled(connection: sqlite3.Connection | None) -> sqlite3.Connection | None:
    """Roll back what is open; return None where the connection is of no more use."""
    if connection is None or not connection.in_transaction:
        return connection
    try:
        connection.execute("ROLLBACK")
    except sqlite3.Error:
        connection.close()
        return None
    return connection


if __name__ == "__main__":
    main()

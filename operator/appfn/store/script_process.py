"""Runs scripts on SQLite in a process of their own (ADR 27).

In a thread, SQLite's driver wants the interpreter's lock back after each statement, and the event loop that has it is
held up each time: at full load by as much again as the statements take.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from typing import Final

import msgspec

from appfn.store.script import Script
from appfn.store.script_server import LENGTH, Answer

_log = logging.getLogger(__name__)

_PATIENCE: Final = 5.0
"""Seconds that a process whose input has ended gets to end."""
_decoder: Final = msgspec.msgpack.Decoder(Answer)


class ScriptProcess:
    """See the module. Started with the first script, and again with the next where it has died."""

    def __init__(self, path: str) -> None:
        """`path`: of the database's file."""
        self._path: Final = path
        self._turn: Final = asyncio.Lock()
        self._process: Process | None = None

    @property
    def pid(self) -> int | None:
        """Return the number of the process, where there is one."""
        return self._process.pid if self._process else None

    async def run(self, script: Script) -> None:
        """Run a script in a transaction of its own, after those that were asked for before.

        Raises:
            sqlite3.Error: as SQLite does; OperationalError too where the process cannot be started, or has died, and
                nobody knows whether the script was committed.
            RuntimeError: the script cannot be run, as with a number that SQLite cannot hold.
        """
        content = msgspec.msgpack.encode(script)
        async with self._turn:
            process = await self._running()
            try:
                answer = await _answer(process, content)
            except (OSError, EOFError) as error:
                await self._bury(process)
                raise sqlite3.OperationalError("the process that writes has ended") from error
            except BaseException:
                await self._end(patience=0)  # or the next script would be given this one's answer
                raise
        if answer is not None:
            raise _error(*answer)

    async def close(self) -> None:
        """End the process; no script must be under way."""
        await self._end(patience=_PATIENCE)

    async def _running(self) -> Process:
        """Return the process; another one where it died while nothing was asked of it."""
        process = self._process
        if process is not None and _has_ended(process):
            await self._bury(process)
        self._process = self._process or await self._start()
        return self._process

    async def _bury(self, process: Process) -> None:
        _log.warning("the process that writes records has ended", extra={"pid": process.pid})
        await self._end(patience=_PATIENCE)

    async def _start(self) -> Process:
        command = sys.executable, "-m", "appfn.store.script_server", self._path
        found_here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=found_here)
        except OSError as error:
            _log.warning("the process that writes records cannot be started", extra={"error": str(error)})
            raise sqlite3.OperationalError(f"the process that writes cannot be started: {error}") from error

    async def _end(self, *, patience: float) -> None:
        """Let the process end, of itself for so many seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(patience):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _has_ended(process: Process) -> bool:
    assert process.stdin is not None
    return process.returncode is not None or process.stdin.is_closing()


async def _answer(process: Process, script: bytes) -> Answer:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.writelines((LENGTH.pack(len(script)), script))
    await process.stdin.drain()
    [length] = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    answer: Answer = _decoder.decode(await process.stdout.readexactly(length))
    return answer


def _error(name: str, text: str) -> Exception:
    kind = getattr(sqlite3, name, None)
    if isinstance(kind, type) and issubclass(kind, sqlite3.Error):
        return kind(text)
    return RuntimeError(f"{name}: {text}")

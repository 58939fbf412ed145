"""One way to call every client, whatever it is written in."""

import base64
import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, assert_never

from support.clients.released import CLIENTS, Kind, Release, install

_SECONDS = 150
"""Longest that a client may take for one call, an upload included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Whom a client is. A page in a browser has an origin and never a key."""

    endpoint: str
    project: str
    key: str = ""
    jwt: str = ""
    origin: str = "http://localhost:3000"


class ClientError(Exception):
    """A client raised. `code` and `type` are what it read from the answer."""

    def __init__(self, message: str, *, code: int, type_: str) -> None:
        super().__init__(f"{code} {type_}: {message}")
        self.message = message
        self.code = code
        self.type = type_


@dataclass(frozen=True, slots=True)
class File:
    """An argument that is a file, or for the CLI a folder that it packs."""

    path: Path


@dataclass(frozen=True, slots=True)
class Query:
    """A query that the client's own `Query` makes; the CLI has none, and takes text."""

    method: str
    values: tuple[Any, ...]

    def text(self, *, old: bool) -> str:
        """Return it as people write it for the CLI."""
        if old:
            return f"{self.method}({', '.join(json.dumps(value) for value in self.values)})"
        attribute, *values = self.values if len(self.values) > 1 else (None, *self.values)
        flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
        return json.dumps(
            {"method": self.method}
            | ({"attribute": attribute} if attribute else {})
            | ({"values": flat} if flat else {})
        )


class Driver(Protocol):
    """A client that is ready to be used."""

    def methods(self) -> Mapping[str, list[str]]:
        """Return the methods of each service, as the installed client itself lists them, in camelCase."""

    def call(self, call: str, /, **arguments: Any) -> Any:
        """Call `service.method`; arguments that this client's method does not take are left out.

        Raises:
            ClientError: it raised.
        """


class SdkDriver:
    """An SDK in a process of its own."""

    def __init__(self, release: Release, access: Access) -> None:
        folder = install(release)
        settings = json.dumps({name: getattr(access, name) for name in ("endpoint", "project", "key", "jwt", "origin")})
        self._process = subprocess.Popen(
            _command(release, folder, settings),
            env=os.environ | {"PYTHONPATH": str(folder / "packages")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def methods(self) -> Mapping[str, list[str]]:
        """See `Driver`."""
        found: Mapping[str, list[str]] = self._ask({})
        return {name[0].lower() + name[1:]: methods for name, methods in found.items()}

    def call(self, call: str, /, **arguments: Any) -> Any:
        """See `Driver`."""
        service, method = call.split(".")
        given = {name: _encoded(value) for name, value in arguments.items()}
        return self._ask({"service": service, "method": method, "arguments": given})

    def _ask(self, request: Mapping[str, Any]) -> Any:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _SECONDS)
        assert ready, f"no answer within {_SECONDS} s to {request}"
        line = process.stdout.readline()
        assert line, f"the client died of {request}"
        answer = json.loads(line)
        if "error" in answer:
            error = answer["error"]
            raise ClientError(error["message"], code=error["code"], type_=error["type"])
        return _plain(answer.get("value"))


def _command(release: Release, folder: Path, settings: str) -> list[str]:
    match release.kind:
        case Kind.NODE | Kind.WEB:
            return ["node", str(CLIENTS / "drive.js"), str(folder), release.package, settings]
        case Kind.PYTHON:
            return [sys.executable, "-S", "-s", str(CLIENTS / "drive.py"), settings]
        case Kind.CLI:
            raise AssertionError("the CLI is no SDK")
        case _:
            assert_never(release.kind)


def _encoded(argument: Any) -> Any:
    match argument:
        case list():
            return [_encoded(item) for item in argument]
        case File():
            return {"$file": str(argument.path)}
        case Query():
            return {"$query": [argument.method, *argument.values]}
        case _:
            return argument


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and "$bytes" in value:
        return base64.b64decode(value["$bytes"])
    return value


class CliDriver:
    """The CLI: a process a call, with a home and a folder of its own."""

    def __init__(self, release: Release, access: Access, folder: Path) -> None:
        self._installed = install(release)
        self._program = self._installed / "node_modules" / "appwrite-cli" / "index.js"
        self._kebab = not release.old
        self.folder = folder / "work"
        self._home = folder / "home"
        self.folder.mkdir()
        self._home.mkdir()
        self._methods, self._options = self._reflect()
        project = self._option("projectId")
        self.run("client", "--endpoint", access.endpoint, project, access.project, "--key", access.key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing runs between calls."""

    def methods(self) -> Mapping[str, list[str]]:
        """See `Driver`."""
        return self._methods

    def call(self, call: str, /, **arguments: Any) -> Any:
        """See `Driver`."""
        service, method = call.split(".")
        options = self._options[call.lower()]
        words = [word for name, value in arguments.items() for word in self._words(options, name, value)]
        return _printed(self.run(self._spelled(service), self._spelled(method), *words))

    def run(self, *words: str) -> str:
        """Run the program; return what it prints.

        Raises:
            ClientError: it ended with an error.
        """
        done = subprocess.run(
            ["node", str(self._program), *words, "--json", "--verbose"],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self._home), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        said = done.stdout + done.stderr
        if done.returncode:
            raise _error(said)
        return said

    def _reflect(self) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
        """Return methods by service, and options by `service.method`, both in camelCase."""
        found = json.loads(
            subprocess.run(
                ["node", str(CLIENTS / "list-commands.js"), str(self._installed)],
                env={"PATH": os.environ["PATH"], "HOME": str(self._home)},
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        commands = {
            _camel(service): {_camel(name): set(map(_camel, options)) for name, options in methods.items()}
            for service, methods in found.items()
        }
        options = {
            f"{service}.{name}".lower(): taken
            for service, methods in commands.items()
            for name, taken in methods.items()
        }
        return {service: list(methods) for service, methods in commands.items()}, options

    def _words(self, options: set[str], name: str, value: Any) -> list[str]:
        if name not in options or value in ([], ""):
            return []
        match value:
            case list():
                words = [item.text(old=not self._kebab) if isinstance(item, Query) else str(item) for item in value]
            case File():
                words = [str(value.path)]
            case dict():
                words = [json.dumps(value)]
            case bool():
                words = [str(value).lower()]
            case _:
                words = [str(value)]
        return [self._option(name), *words]

    def _option(self, name: str) -> str:
        return "--" + self._spelled(name)

    def _spelled(self, name: str) -> str:
        return re.sub(r"([A-Z]+)", lambda found: "-" + found[1].lower(), name) if self._kebab else name


def _camel(name: str) -> str:
    return re.sub(r"-([a-z])", lambda found: found[1].upper(), name)


def _printed(said: str) -> Any:
    """Return the JSON that the CLI printed among other things; the text where there is none."""
    start, end = said.find("{"), said.rfind("}")
    return said if start < 0 or end < 0 else json.loads(said[start : end + 1])


def _error(said: str) -> ClientError:
    code = re.search(r"\bcode: (\d+)", said)
    type_ = re.search(r"\b(?:type|response): '([a-z_]+)'", said)
    message = re.search(r"(?:Error|Exception)[^:\n]*: (.+)", said)
    return ClientError(
        message[1].strip() if message else said.strip()[-500:],
        code=int(code[1]) if code else 0,
        type_=type_[1] if type_ else "",
    )


def start(release: Release, access: Access, folder: Path) -> SdkDriver | CliDriver:
    """Return a client that is ready; end it with `with`."""
    if release.kind is Kind.CLI:
        return CliDriver(release, access, folder)
    return SdkDriver(release, access)

"""The shim's HTTP API as a client without an SDK calls it."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status and JSON body (empty for none) of an HTTP answer."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Appwrite:
    """A project at a shim. `base` gives the URL anew for each call, as a port-forward may be made again."""

    base: Callable[[], str]
    project: str
    key: str

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Send one request; every HTTP status is an answer."""
        sent = {"X-Appwrite-Project": self.project, "Content-Type": "application/json"}
        if self.key:
            sent["X-Appwrite-Key"] = self.key
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base() + path, data=data, method=method, headers=sent)  # noqa: S310 - http to our own port
        try:
            with urllib.request.urlopen(request, timeout=70) as response:  # noqa: S310 - as above
                return Answer(
                    status=response.status,
                    body=json.loads(response.read() or b"{}"),
                    headers=dict(response.headers),
                )
        except urllib.error.HTTPError as error:
            with error:
                return Answer(status=error.code, body=json.loads(error.read() or b"{}"), headers=dict(error.headers))

    def execute(self, function: str, *, data: str = "", asynchronous: bool = False, **headers: str) -> Answer:
        """Create an execution (dialect of Appwrite 1.0 to 1.3)."""
        return self.call(
            "POST",
            f"/v1/functions/{function}/executions",
            {"data": data, "async": asynchronous},
            X_Appwrite_Response_Format="1.0.0",
            **headers,
        )

    def execution(self, function: str, execution: str) -> Answer:
        """Read one execution."""
        path = f"/v1/functions/{function}/executions/{execution}"
        return self.call("GET", path, X_Appwrite_Response_Format="1.0.0")

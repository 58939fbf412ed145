"""Callers of the shim's public API in integration tests."""

from dataclasses import dataclass

from support.polling import eventually
from support.shim_server import Reply, ShimAt


@dataclass(frozen=True, slots=True)
class Client:
    """A caller with a key and a dialect."""

    shim: ShimAt
    project: str
    key: str = ""
    response_format: str = "1.0.0"
    token: str = ""
    """Value of X-Appwrite-JWT."""

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """Send one request of the project."""
        sent = {"X_Appwrite_Project": self.project, "X_Appwrite_Response_Format": self.response_format}
        if self.key:
            sent["X_Appwrite_Key"] = self.key
        if self.token:
            sent["X_Appwrite_JWT"] = self.token
        return await self.shim.call(method, path, body, **(sent | headers))

    async def execute(self, function: str = "hello", body: object = None, **headers: str) -> Reply:
        """Create an execution."""
        return await self.call("POST", f"/v1/functions/{function}/executions", body or {}, **headers)

    async def execution(self, id_: str, function: str = "hello") -> Reply:
        """Read an execution."""
        return await self.call("GET", f"/v1/functions/{function}/executions/{id_}")

    async def executions(self, query: str = "", function: str = "hello") -> Reply:
        """List executions."""
        return await self.call("GET", f"/v1/functions/{function}/executions{query}")

    async def finished(self, id_: str, function: str = "hello") -> Reply:
        """Return an execution when it is terminal."""

        async def probe() -> Reply | None:
            reply = await self.execution(id_, function)
            assert reply.status == 200, reply  # `eventually` tries again
            return reply if reply.body["status"] in {"completed", "failed"} else None

        return await eventually(probe, within=20)

"""The little of the Kubernetes API that is needed before kubectl or a client library is there."""

import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """An apiserver at ``address:port`` and the administrator's credentials for it."""

    address: str
    port: int
    pki: Path

    def get(self, path: str) -> Any:
        """The JSON at ``path``; None if the server can't be reached or refuses."""
        answer = self._request(path)
        return None if answer is None else json.loads(answer)

    def ready(self) -> bool:
        """Whether all its checks pass."""
        return self._request("/readyz") == b"ok"

    def _request(self, path: str) -> bytes | None:
        try:
            connection = self._connect()
        except (OSError, ssl.SSLError):
            return None
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            return None
        else:
            return body if response.status == http.HTTPStatus.OK else None
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        context.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")
        return http.client.HTTPSConnection(self.address, self.port, timeout=_TIMEOUT, context=context)

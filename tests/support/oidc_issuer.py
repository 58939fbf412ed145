"""An OpenID Connect issuer on this machine: discovery, keys that change, and every way to misbehave."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from appfn.api.base import Json

AUDIENCE = "shop-app"


class SigningKey:
    """A key pair of an issuer."""

    def __init__(self, kid: str, algorithm: str = "RS256", *, bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self._private, self.public = _pair(algorithm, bits)
        self.public |= {"kid": kid, "use": "sig"}

    def sign(self, claims: Json, **header: Any) -> str:
        """Return a token."""
        return jwt.encode(claims, self._private, algorithm=self.algorithm, headers={"kid": self.kid, **header})


def _pair(algorithm: str, bits: int) -> tuple[Any, Json]:
    if algorithm.startswith("ES"):
        elliptic = ec.generate_private_key(ec.SECP256R1())
        return elliptic, json.loads(ECAlgorithm.to_jwk(elliptic.public_key()))
    if algorithm == "EdDSA":
        edwards = ed25519.Ed25519PrivateKey.generate()
        return edwards, json.loads(OKPAlgorithm.to_jwk(edwards.public_key()))
    found = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return found, json.loads(RSAAlgorithm.to_jwk(found.public_key()))


def claims(issuer: str, **changes: Any) -> Json:
    """Return the claims of an ID token; None takes one away."""
    now = int(datetime.now(UTC).timestamp())
    all_ = {"iss": issuer, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300} | changes
    return {name: value for name, value in all_.items() if value is not None}


class OidcIssuer:
    """See the module. `asked` are the paths that were asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.keys = [SigningKey("k1")]
        self.asked: list[str] = []
        self.discovery: Callable[[], Any] = lambda: {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.answer: Callable[[], Any] = lambda: {"keys": [key.public for key in self.keys]}

    @property
    def origin(self) -> str:
        """What an administrator has to trust."""
        return self.url

    def token(self, *, key: SigningKey | None = None, **changes: Any) -> str:
        """Return a token of a user."""
        return (key or self.keys[0]).sign(claims(self.url, **changes))

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator["OidcIssuer"]:
        """Serve on a port of its own."""
        issuer = cls()
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", issuer._discover)
        app.router.add_get("/keys", issuer._key_set)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield issuer
        finally:
            await runner.cleanup()

    async def _discover(self, request: web.Request) -> web.Response:
        return await self._serve(request, self.discovery)

    async def _key_set(self, request: web.Request) -> web.Response:
        return await self._serve(request, self.answer)

    async def _serve(self, request: web.Request, answer: Callable[[], Any]) -> web.Response:
        self.asked.append(request.path)
        content = answer()
        return content if isinstance(content, web.Response) else web.json_response(content)

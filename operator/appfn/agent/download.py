"""Fetching a source tarball over HTTP."""

import hashlib
import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.request import Request

from appfn.agent.archive import SOURCE_LIMITS
from appfn.agent.build_log import megabytes
from appfn.agent.build_settings import HttpSource
from appfn.agent.certificates import ssl_context
from appfn.agent.failure import AgentError, Reason
from appfn.agent.retry import Patience

CHUNK = 262_144
SOCKET_SECONDS = 30.0
MAX_REDIRECTS = 5
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


def download(source: HttpSource, target: BinaryIO, *, say: Callable[[str], None], patience: Patience) -> int:
    """Write the tarball to `target` and return its size; its sha256 is the expected one.

    Credentials in the URL go to that host alone and are never shown; a redirect from https to http is refused.

    Raises:
        AgentError: SourceUnavailable, DigestMismatch or InvalidArchive (too large).
    """
    url, shown = source.url, public_url(source.url)
    if urllib.parse.urlsplit(url).scheme not in {"http", "https"}:
        raise AgentError(Reason.SOURCE_UNAVAILABLE, f"{shown}: only http and https can be fetched")
    trouble, opener = "", _opener()
    for _ in patience.attempts():
        try:
            digest, size = _receive(opener, url, target)
        except urllib.error.HTTPError as error:
            error.close()
            trouble = f"the server answered HTTP {error.code} {error.reason}"
            if error.code not in _AGAIN:
                break
        except ssl.SSLCertVerificationError as error:
            trouble = f"the server's certificate is not trusted: {error.verify_message}"
            break
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            trouble = f"{type(reason).__name__}: {reason}"
        else:
            say(f"Fetched {shown} ({megabytes(size)})")
            _verify(digest, source.sha256, shown)
            return size
    raise AgentError(Reason.SOURCE_UNAVAILABLE, f"{shown} cannot be fetched: {trouble}")


def public_url(url: str) -> str:
    """Return a URL for logs: without user, password, query and fragment, as each may hold a secret."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _verify(digest: str, expected: str, shown: str) -> None:
    if digest != expected:
        message = f"{shown} has sha256 {digest}, but spec.source.http.sha256 is {expected}"
        raise AgentError(Reason.DIGEST_MISMATCH, message)


def _receive(opener: urllib.request.OpenerDirector, url: str, target: BinaryIO) -> tuple[str, int]:
    target.seek(0)
    target.truncate()
    sha256 = hashlib.sha256()
    limit = SOURCE_LIMITS.compressed
    with opener.open(_request(url), timeout=SOCKET_SECONDS) as response:
        while chunk := response.read(CHUNK):
            if target.tell() + len(chunk) > limit:
                raise AgentError(Reason.INVALID_ARCHIVE, f"{public_url(url)} is larger than {limit >> 20} MiB")
            sha256.update(chunk)
            target.write(chunk)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
    return sha256.hexdigest(), target.tell()


def _request(url: str) -> Request:
    parts = urllib.parse.urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = Request(urllib.parse.urlunsplit(parts._replace(netloc=host)), headers={"User-Agent": "appfn"})  # noqa: S310 - the opener knows http and https alone
    if user:
        import base64  # noqa: PLC0415 - rare

        name, _, password = user.partition(":")
        pair = f"{urllib.parse.unquote(name)}:{urllib.parse.unquote(password)}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return request


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone: the default one also opens files and ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows few redirects, none to weaker transport, and takes no credentials to another host."""

    max_redirections = MAX_REDIRECTS

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.scheme not in {"http", "https"} or (old.scheme == "https" and new.scheme == "http"):
            fp.close()
            message = f"{public_url(req.full_url)} redirects to {new.scheme}, which is not followed"
            raise AgentError(Reason.SOURCE_UNAVAILABLE, message)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            request.remove_header("Authorization")
        return request

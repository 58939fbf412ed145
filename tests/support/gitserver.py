"""A git server in the cluster, by https with a certificate of its own authority, as companies have it."""

import base64
import io
import subprocess
import tarfile
from pathlib import Path

from support.kubectl import Json, Kubectl
from support.ledger import SECURITY

AUTHORITIES_FILE = "/etc/appfn-ca/ca-certificates.crt"
"""Where builds find what the project's ConfigMap appfn-build-ca holds."""

_SERVER = """
import http.server, os, ssl, subprocess, tarfile
tarfile.open("/srv/repository/repository.tar").extractall("/tmp/repositories", filter="data")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        request = {
            "CONTENT_LENGTH": self.headers.get("content-length", "0"),
            "CONTENT_TYPE": self.headers.get("content-type", ""),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": "/tmp/repositories",
            "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
        }
        body = self.rfile.read(int(request["CONTENT_LENGTH"]))
        done = subprocess.run(["git", "http-backend"], input=body, env=os.environ | request, capture_output=True)
        head, _, content = done.stdout.partition(b"\\r\\n\\r\\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    do_POST = do_GET
server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/srv/tls/tls.crt", "/srv/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def start_git_server(project: Kubectl, directory: Path, files: dict[str, str]) -> str:
    """Serve a repository with one commit of `files`; let builds of the project trust it; return its URL."""
    host = f"git.{project.namespace}.svc"
    _certificate(directory, host)
    certificate, key = (directory / name for name in ("tls.crt", "tls.key"))
    project.apply(
        _config_map("appfn-build-ca", data={"ca-certificates.crt": certificate.read_text()}),
        _config_map("appfn-build-env", data={"GIT_SSL_CAINFO": AUTHORITIES_FILE}),
        _config_map("repository", binary={"repository.tar": _repository(directory, files)}),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "git-tls"},
            "stringData": {"tls.crt": certificate.read_text(), "tls.key": key.read_text()},
        },
        _pod(),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "git"},
            "spec": {"selector": {"app": "git"}, "ports": [{"port": 443, "targetPort": 8443}]},
        },
    )
    project("wait", "pod/git", "--for=condition=Ready", "--timeout=60s")
    return f"https://{host}/code.git"


def _certificate(directory: Path, host: str) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-days", "2"]
    subprocess.run(
        [*command, *names, "-keyout", directory / "tls.key", "-out", directory / "tls.crt"],
        check=True,
        capture_output=True,
    )


def _repository(directory: Path, files: dict[str, str]) -> bytes:
    work, bare = directory / "work", directory / "code.git"
    work.mkdir()
    for name, text in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    who = ["-c", "user.name=e2e", "-c", "user.email=e2e@example.com"]
    commands: list[list[str | Path]] = [
        ["git", "-C", work, "init", "-q", "-b", "main"],
        ["git", "-C", work, "add", "."],
        ["git", *who, "-C", work, "commit", "-q", "-m", "code"],
        ["git", "clone", "-q", "--bare", work, bare],
    ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(bare, "code.git", filter=_without_hooks)
    return packed.getvalue()


def _without_hooks(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out the sample hooks, which are larger than all the rest."""
    return None if "/hooks/" in entry.name else entry


def _config_map(name: str, *, data: dict[str, str] | None = None, binary: dict[str, bytes] | None = None) -> Json:
    encoded = {key: base64.b64encode(value).decode() for key, value in (binary or {}).items()}
    metadata = {"name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data or {}, "binaryData": encoded}


def _pod() -> Json:
    container = {
        "name": "git",
        "image": "appfn/appfn:0.1.0",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _SERVER],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "securityContext": SECURITY,
        "volumeMounts": [
            {"name": "repository", "mountPath": "/srv/repository"},
            {"name": "tls", "mountPath": "/srv/tls"},
        ],
    }
    volumes = [
        {"name": "repository", "configMap": {"name": "repository"}},
        {"name": "tls", "secret": {"secretName": "git-tls"}},
    ]
    spec = {"automountServiceAccountToken": False, "containers": [container], "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "git", "labels": {"app": "git"}}, "spec": spec}

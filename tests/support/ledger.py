"""A pod that counts what functions tell it: the proof of how often code really ran."""

import json
from collections import Counter

from support.kubectl import Json, Kubectl

_SERVER = """
import http.server, json, threading
seen, lock = [], threading.Lock()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with lock:
            if self.path != "/":
                seen.append(self.path[1:])
            body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""

SECURITY: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What Pod Security `restricted` asks of a container."""


def start_ledger(project: Kubectl) -> str:
    """Start it; return the URL functions append a word to."""
    labels = {"app": "ledger"}
    container = {
        "name": "ledger",
        "image": "appfn/appfn:0.1.0",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _SERVER],
        "securityContext": SECURITY,
    }
    spec = {"automountServiceAccountToken": False, "containers": [container]}
    project.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ledger", "labels": labels}, "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "ledger"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
        },
    )
    project("wait", "pod/ledger", "--for=condition=Ready", "--timeout=60s")
    return f"http://ledger.{project.namespace}.svc/"


def read_ledger(project: Kubectl) -> Counter[str]:
    """Return how often each word was told."""
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/').read().decode())"
    return Counter(json.loads(project("exec", "ledger", "--", "python3", "-c", script)))

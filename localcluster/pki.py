"""Certificates and keys of a cluster: one authority, ECDSA P-256, made by ``openssl``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import commands

_DAYS = "3650"
_REMEDY = "install openssl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate to make. ``addresses`` makes it a server's: ``DNS:a`` or ``IP:1.2.3.4``."""

    file: str
    user: str
    groups: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """Kubernetes reads the user from CN and the groups from O."""
        return "".join(f"/O={group}" for group in self.groups) + f"/CN={self.user}"

    @property
    def extensions(self) -> list[str]:
        """What the certificate may be used for, and nothing more."""
        common = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
        if not self.addresses:
            return [*common, "extendedKeyUsage=clientAuth"]
        names = "subjectAltName=" + ",".join(self.addresses)
        return [*common, "extendedKeyUsage=serverAuth", names]


ADMIN = Leaf(file="admin", user="appfn-admin", groups=("system:masters",))
CONTROLLER_MANAGER = Leaf(file="controller-manager", user="system:kube-controller-manager")
SCHEDULER = Leaf(file="scheduler", user="system:kube-scheduler")
PROXY = Leaf(file="proxy", user="system:kube-proxy")
KUBELET_CLIENT = Leaf(file="apiserver-kubelet-client", user="kube-apiserver-kubelet-client")


def node(name: str) -> Leaf:
    """What the kubelet of node ``name`` identifies itself with."""
    return Leaf(file="kubelet", user=f"system:node:{name}", groups=("system:nodes",))


def apiserver(addresses: Sequence[str]) -> Leaf:
    """The apiserver's serving certificate for these IP addresses and its in-cluster names."""
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names.append("kubernetes.default.svc.cluster.local")
    alternatives = [*(f"DNS:{name}" for name in names), *(f"IP:{ip}" for ip in addresses)]
    return Leaf(file="apiserver", user="kube-apiserver", addresses=tuple(alternatives))


def kubelet_server(name: str, address: str) -> Leaf:
    """The kubelet's serving certificate."""
    addresses = (f"DNS:{name}", f"IP:{address}")
    return Leaf(file="kubelet-server", user=f"kubelet-{name}", addresses=addresses)


def ensure(directory: Path, leaves: Sequence[Leaf]) -> None:
    """Make what is missing in ``directory``: the authority, the token key, each leaf."""
    if not (directory / "ca.crt").exists():
        _make_authority(directory)
    if not (directory / "service-accounts.pub").exists():
        _make_token_key(directory)
    for leaf in leaves:
        if not (directory / f"{leaf.file}.crt").exists():
            _make_leaf(directory, leaf)


def _make_authority(directory: Path) -> None:
    key = _key(directory, "ca")
    request = [*_request(key, "/CN=appfn-localcluster-ca"), "-x509", "-days", _DAYS]
    request += ["-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"]
    request += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    _finish(directory / "ca.crt", request)


def _make_token_key(directory: Path) -> None:
    key = _key(directory, "service-accounts")
    public = ["openssl", "pkey", "-in", str(key), "-pubout"]
    _finish(directory / "service-accounts.pub", public)


def _make_leaf(directory: Path, leaf: Leaf) -> None:
    key = _key(directory, leaf.file)
    request = [*_request(key, leaf.subject), "-x509", "-days", _DAYS]
    request += ["-CA", str(directory / "ca.crt"), "-CAkey", str(directory / "ca.key")]
    for extension in leaf.extensions:
        request += ["-addext", extension]
    _finish(directory / f"{leaf.file}.crt", request)


def _request(key: Path, subject: str) -> list[str]:
    # -config /dev/null: the host's openssl.cnf must not add extensions of its own.
    config = ["-config", "/dev/null"]
    return ["openssl", "req", "-new", "-sha256", *config, "-key", str(key), "-subj", subject]


def _key(directory: Path, name: str) -> Path:
    path = directory / f"{name}.key"
    if not path.exists():
        command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt"]
        _finish(path, [*command, "ec_paramgen_curve:P-256"])
    return path


def _finish(path: Path, command: Sequence[str]) -> None:
    """Run ``command -out path`` so that ``path`` is whole or absent, and private."""
    unfinished = path.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.chmod(0o600)
    commands.run([*command, "-out", str(unfinished)], remedy=_REMEDY)
    unfinished.rename(path)

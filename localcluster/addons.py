"""What every cluster has besides its components: DNS, storage, access to the kubelet. Pure."""

import hashlib
from pathlib import Path

from localcluster.configs import Document
from localcluster.nodeconfigs import Node

COREDNS_IMAGE = "docker.io/appfn/coredns:v1.13.1"
VOLUMES = 20
VOLUME_SIZE = "10Gi"

_DNS_PORT = 1053
_NAMESPACE = "kube-system"
_LABELS = {"k8s-app": "kube-dns"}
# Names of the cluster are never answered from the cache: a Service resolves as soon as it exists.
_COREFILE = f"""\
.:{_DNS_PORT} {{
    errors
    health {{
        lameduck 0s
    }}
    ready
    cache 30 {{
        disable success cluster.local
        disable denial cluster.local
    }}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
    forward . /etc/resolv.conf
}}
"""


def manifests(node: Node) -> list[Document]:
    """Everything to apply to a new cluster."""
    return [kubelet_access(), *dns(node), storage_class(), *(volume(node, number) for number in range(VOLUMES))]


def kubelet_access() -> Document:
    """Let the apiserver fetch logs and run `kubectl exec`."""
    user = "kube-apiserver-kubelet-client"
    return _cluster_binding(
        "appfn-kubelet-api",
        role="system:kubelet-api-admin",
        subject={"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user},
    )


def storage_class() -> Document:
    """The default class; a claim is bound once a pod uses it."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def volume_name(number: int) -> str:
    """Name of a volume and of its directory."""
    return f"local-{number:02d}"


def volume(node: Node, number: int) -> Document:
    """One volume, a directory of the node; of type `local`, which honours ``fsGroup``."""
    name = volume_name(number)
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": VOLUME_SIZE},
            "local": {"path": str(volume_directory(node, number))},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "local",
        },
    }


def volume_directory(node: Node, number: int) -> Path:
    """Where the content of a volume is."""
    return node.layout.state / "volumes" / volume_name(number)


def dns(node: Node) -> list[Document]:
    """CoreDNS: unprivileged, read-only, answering at ``node.dns``."""
    account = {"kind": "ServiceAccount", "name": "coredns", "namespace": _NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata()},
        _dns_role(),
        _cluster_binding("appfn:coredns", role="appfn:coredns", subject=account),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(), "data": {"Corefile": _COREFILE}},
        _dns_deployment((node.layout.config / "resolv.conf").read_bytes()),
        _dns_service(node),
    ]


def _metadata() -> Document:
    return {"name": "coredns", "namespace": _NAMESPACE, "labels": _LABELS}


def _dns_role() -> Document:
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    metadata = {"name": "appfn:coredns"}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}


def _dns_service(node: Node) -> Document:
    ports = [
        {"name": f"dns-{protocol.lower()}", "port": 53, "targetPort": _DNS_PORT, "protocol": protocol}
        for protocol in ("UDP", "TCP")
    ]
    spec = {"clusterIP": node.dns, "selector": _LABELS, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {**_metadata(), "name": "kube-dns"}, "spec": spec}


def _dns_deployment(resolv_conf: bytes) -> Document:
    # CoreDNS reads both files once, at its start: a change of either makes a new pod.
    version = hashlib.sha256(_COREFILE.encode() + resolv_conf).hexdigest()[:16]
    template = {
        "metadata": {"labels": _LABELS, "annotations": {"appfn.dev/configuration": version}},
        "spec": {
            "serviceAccountName": "coredns",
            "dnsPolicy": "Default",
            "priorityClassName": "system-cluster-critical",
            "containers": [_dns_container()],
            "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }
    spec = {"replicas": 1, "selector": {"matchLabels": _LABELS}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(), "spec": spec}


def _dns_container() -> Document:
    return {
        "name": "coredns",
        "image": COREDNS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
        "ports": [
            {"name": "dns-udp", "containerPort": _DNS_PORT, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": _DNS_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/health", "port": 8080}, "failureThreshold": 5, "timeoutSeconds": 5},
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _cluster_binding(name: str, *, role: str, subject: Document) -> Document:
    group = "rbac.authorization.k8s.io"
    reference = {"apiGroup": group, "kind": "ClusterRole", "name": role}
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": reference,
        "subjects": [subject],
    }

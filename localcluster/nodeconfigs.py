"""Configuration of the node's components, rendered. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from localcluster.api import Api
from localcluster.configs import Document
from localcluster.network import BRIDGE, CNI_NAME, gateway
from localcluster.paths import Layout
from localcluster.ports import Network

PAUSE_IMAGE = "docker.io/appfn/pause:1"
CNI_PLUGINS = "/usr/lib/cni"
MAX_PODS = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the node's configuration depends on."""

    layout: Layout
    name: str
    pods: Network
    services: Network
    ports: Mapping[str, int]
    bridge_is_filtered: bool
    overlays_work: bool

    @property
    def address(self) -> str:
        """The node's address: the bridge's, so that nothing listens on the host's own."""
        return gateway(self.pods)

    @property
    def dns(self) -> str:
        """Address of the cluster's DNS service."""
        return str(self.services[10])

    @property
    def api(self) -> Api:
        """Its apiserver."""
        return Api(address=self.address, port=self.ports["apiserver"], pki=self.layout.pki)


def kubelet(node: Node) -> Document:
    """KubeletConfiguration: authenticated by webhook, quick, and content with any cgroup version."""
    pki = node.layout.pki
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "port": node.ports["kubelet"],
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{node.layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.layout.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [node.dns],
        "clusterDomain": "cluster.local",
        "resolvConf": str(node.layout.config / "resolv.conf"),
        "podLogsDir": str(node.layout.logs / "pods"),
        "volumePluginDir": str(node.layout.state / "volume-plugins"),
        "makeIPTablesUtilChains": False,
        "maxPods": MAX_PODS,
        **_promptness(),
        **_keeping_images(),
    }


def _promptness() -> Document:
    """Nothing waits for a quota that protects clusters of a thousand nodes."""
    return {
        "syncFrequency": "10s",
        "eventRecordQPS": 0,
        "registryPullQPS": 0,
        "serializeImagePulls": False,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "configMapAndSecretChangeDetectionStrategy": "Watch",
    }


def _keeping_images() -> Document:
    """Images were brought by hand and can't be pulled again: never collect them."""
    return {
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1Gi",
            "imagefs.available": "1Gi",
            "nodefs.inodesFree": "1%",
        },
    }


def kube_proxy(node: Node) -> Document:
    """KubeProxyConfiguration: iptables, and the host's connection tracking left as it is."""
    kubeconfig = str(node.layout.config / "proxy.kubeconfig")
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 50, "burst": 100},
        "hostnameOverride": node.name,
        "clusterCIDR": str(node.pods),
        "bindAddress": node.address,
        "healthzBindAddress": f"127.0.0.1:{node.ports['proxy-health']}",
        "metricsBindAddress": f"127.0.0.1:{node.ports['proxy-metrics']}",
        "nodePortAddresses": ["primary"],
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {
            "localhostNodePorts": False,
            "masqueradeAll": not node.bridge_is_filtered,
            "minSyncPeriod": "0s",
        },
    }


def cni(node: Node) -> Document:
    """One bridge for all pods; masquerading is one rule of ours, not one chain per pod."""
    ranges = [[{"subnet": str(node.pods)}]]
    ipam = {
        "type": "host-local",
        "dataDir": str(node.layout.run / "addresses"),
        "ranges": ranges,
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": CNI_NAME, "plugins": [bridge]}


def containerd(node: Node) -> str:
    """Configuration of containerd (TOML): own root, state and socket, nothing of the host's."""
    state, run = node.layout.state, node.layout.run
    snapshotter = "overlayfs" if node.overlays_work else "native"
    return f"""version = 2
root = "{state}/containerd"
state = "{run}/containerd"
oom_score = -999
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing"]

[grpc]
address = "{node.layout.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_tcp_service = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{node.layout.config}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{run}/runc"
SystemdCgroup = false
"""

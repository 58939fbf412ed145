import json
from pathlib import Path

import pytest

from localcluster import binaries, configs, controlplane, paths, providers, residue
from localcluster.__main__ import main
from localcluster.components import has_condition
from localcluster.errors import ClusterError
from localcluster.paths import Layout
from localcluster.record import Record


@pytest.mark.parametrize("name", ["", "A", "a_b", "../x", "-a", "a-", "a" * 41])
def test_a_name_that_is_no_directory_or_node_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="can't name a cluster"):
        paths.system_layout(name)


def test_directories_are_private(layout: Layout) -> None:
    layout.make()
    assert layout.pki.stat().st_mode & 0o777 == 0o700


def test_configuration_is_private_and_not_written_again_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    document: configs.Document = {"a": 1}
    controlplane.write(path, document)
    before = path.stat().st_mtime_ns
    controlplane.write(path, document)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mtime_ns == before
    controlplane.write(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}


def record() -> Record:
    return Record(node="test", pod_cidr="10.0.0.0/22", service_cidr="10.0.16.0/20", ports={"apiserver": 1}, boot="this")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record().write(tmp_path / "cluster.json")
    assert Record.read(tmp_path / "cluster.json") == record()
    assert Record.read(tmp_path / "absent.json") is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"node": "x"}'])
def test_a_damaged_record_says_how_to_go_on(tmp_path: Path, content: str) -> None:
    (tmp_path / "cluster.json").write_text(content)
    with pytest.raises(ClusterError, match="run `down`, then `up` again"):
        Record.read(tmp_path / "cluster.json")


def test_places_made_for_us_go_and_what_others_put_there_stays(layout: Layout, tmp_path: Path) -> None:
    ours, shared = tmp_path / "ours", tmp_path / "shared"
    (ours / "below").mkdir(parents=True)
    shared.mkdir()
    (shared / "of-someone").touch()
    residue.remove(layout, [str(ours), str(shared)])
    assert not ours.exists()
    assert (shared / "of-someone").exists()


def test_the_version_is_linked_into_server_and_client() -> None:
    flags = binaries.version_flags("v1.34.4")
    assert "-X k8s.io/component-base/version.gitVersion=v1.34.4" in flags
    assert "-X k8s.io/client-go/pkg/version.gitMinor=34" in flags


def test_helm_renders_for_the_version_of_the_cluster_where_it_asks_none() -> None:
    assert "-X helm.sh/helm/v4/pkg/chart/common.k8sVersionMinor=34" in binaries.helm_flags("v1.34.4")


def test_a_condition_counts_only_when_true() -> None:
    node = {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Full", "status": "False"}]}}
    assert has_condition(node, "Ready")
    assert not has_condition(node, "Full")
    assert not has_condition(node, "Absent")
    assert not has_condition(None, "Ready")


def test_a_named_cluster_is_used_and_never_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch()
    monkeypatch.setenv("APPFN_KUBECONFIG", str(kubeconfig))
    cluster = providers.choose("test")
    assert cluster.kubeconfig == kubeconfig
    cluster.down(purge=True)
    assert kubeconfig.exists()


def test_a_problem_is_one_line_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("APPFN_KUBECONFIG", str(tmp_path / "absent"))
    assert main(["up"]) == 1
    assert capsys.readouterr().err.strip() == (
        f"localcluster: APPFN_KUBECONFIG names {tmp_path}/absent, which is no file; correct or unset it"
    )

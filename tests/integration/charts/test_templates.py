"""charts/appfn says what manifests/ says, and its values do what they are called."""

import json
import shutil
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from appfn.config import Config
from support.helm import CHART, ROOT, SYSTEM, HelmError, Json, Objects, helm, kustomized, rendered

OPERATOR = ("Deployment", SYSTEM, "appfn-operator")
SHIM = ("StatefulSet", SYSTEM, "appfn-shim")
PART_OF = "app.kubernetes.io/part-of"

FIXED = {
    *("APPFN_NAMESPACE", "APPFN_POD_NAME", "APPFN_POD_IP", "APPFN_SHIM_URL", "APPFN_OPERATOR_USER"),  # by the release
    *("APPFN_IMAGE", "APPFN_PROCESSES", "APPFN_DATABASE_URL"),  # by values of their own
    *("APPFN_HOST", "APPFN_PORT", "APPFN_METRICS_PORT", "APPFN_HEALTH_PORT"),  # by ports of containers and policies
    *("APPFN_TOKEN_PATH", "APPFN_CACHE_DIR", "APPFN_KUBECONFIG"),  # by volumes
    *("APPFN_PROCESS_INDEX", "APPFN_SOCKETS_DIR"),  # by the shim itself
}
"""Variables that `config` can't set, as the chart has said them already."""
TYPES = {int: "integer", float: "number", str: "string"}


@pytest.fixture(scope="module")
def schema() -> Json:
    parsed: Json = json.loads((CHART / "values.schema.json").read_text())
    return parsed


@pytest.fixture(scope="module")
def values() -> Json:
    parsed: Json = yaml.safe_load((CHART / "values.yaml").read_text())
    return parsed


def manifests() -> Objects:
    """Return what kustomize installs, without what Helm can't have."""
    found = kustomized("manifests/base") | kustomized("manifests/runtimes")
    # A release can't hold the namespace it is in; `--create-namespace` makes it.
    del found["Namespace", "", SYSTEM]
    # Helm installs the files of crds/ as they are; the label is what the kustomization adds.
    for (kind, _, _), item in found.items():
        if kind == "CustomResourceDefinition":
            del item["metadata"]["labels"]
    return found


def pod(objects: Objects, key: tuple[str, str, str]) -> Json:
    spec: Json = objects[key]["spec"]["template"]["spec"]
    return spec


def container(objects: Objects, key: tuple[str, str, str]) -> Json:
    (only,) = pod(objects, key)["containers"]
    found: Json = only
    return found


def environment(objects: Objects, key: tuple[str, str, str]) -> dict[str, Any]:
    entries = container(objects, key)["env"]
    assert len({entry["name"] for entry in entries}) == len(entries)
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


def test_the_chart_installs_what_kustomize_installs_object_by_object() -> None:
    chart, wanted = rendered(), manifests()

    assert chart.keys() == wanted.keys()
    for key, item in wanted.items():
        assert chart[key] == item, key


def test_a_packaged_chart_holds_all_that_its_links_lead_to(tmp_path: Path) -> None:
    helm("package", str(CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.iterdir()

    assert rendered(chart=package) == rendered()


def test_the_chart_passes_a_strict_lint() -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_the_chart_has_the_version_of_what_it_installs() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert (chart["version"], chart["appVersion"], chart["description"]) == (
        project["version"],
        project["version"],
        project["description"],
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("shim.replica=2", "at '/shim': additional properties 'replica' not allowed"),
        ("replicas=2", "at '': additional properties 'replicas' not allowed"),
        ("shim.replicas=two", "at '/shim/replicas': got string, want integer"),
        ("image.pullPolicy=Sometimes", "at '/image/pullPolicy': value must be one of 'Always', 'IfNot"),
        ("config.APPFN_QUEUE_LIMT=5", "at '/config': additional properties 'APPFN_QUEUE_LIMT' not allowed"),
        ("config.APPFN_QUEUE_LIMIT=0", "at '/config/APPFN_QUEUE_LIMIT': minimum: got 0, want 1"),
        ("config.APPFN_DATABASE_URL=x", "at '/config': additional properties 'APPFN_DATABASE_URL' not allowed"),
        ("runtimes.others=true", "at '/runtimes': additional properties 'others' not allowed"),
        ("operator.resources.limits.cpu=2x", "at '/operator/resources/limits/cpu': '2x' does not match pattern"),
        ("shim.extraEnv[0].nam=x", "at '/shim/extraEnv/0': missing property 'name'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(value: str, message: str) -> None:
    with pytest.raises(HelmError) as refusal:
        rendered("--set", value)

    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "values",
    [
        ["shim.replicas=2"],
        ["shim.replicas=2", "shim.databaseSecret.name=pg"],
        ["shim.replicas=2", "config.APPFN_ARTIFACTS_URL=s3://b"],
    ],
)
def test_several_shims_without_a_database_and_an_object_store_are_refused(values: list[str]) -> None:
    with pytest.raises(HelmError, match=r"shim\.replicas: more than 1 needs shim\.databaseSecret\.name and config"):
        rendered("--set", ",".join(values))


def test_config_takes_the_variables_of_the_program_with_their_types_and_bounds(schema: Json) -> None:
    known: Json = {}
    for section in get_type_hints(Config).values():
        for item in fields(section):
            bounds = {"minimum": item.metadata["low"], "maximum": item.metadata["high"]}
            known[item.metadata["env"]] = {"type": TYPES[get_type_hints(section)[item.name]]} | {
                name: bound for name, bound in bounds.items() if bound is not None
            }

    assert known.keys() >= FIXED
    allowed = {name: rule for name, rule in known.items() if name not in FIXED}
    assert schema["properties"]["config"]["properties"] == allowed
    processes = schema["properties"]["shim"]["properties"]["processes"]
    assert processes == known["APPFN_PROCESSES"]


def test_every_value_the_schema_takes_stands_in_the_values_file(schema: Json, values: Json) -> None:
    def compare(rule: Json, found: Any, place: str) -> None:
        if "properties" in rule:
            assert rule["properties"].keys() - {"global"} == found.keys(), place
            for name, value in found.items():
                compare(rule["properties"][name], value, f"{place}.{name}")

    del schema["properties"]["config"]["properties"], schema["definitions"]
    compare(schema, values, "values")


def test_the_catalogues_are_the_files_of_the_manifests(values: Json) -> None:
    files = {path.stem for path in (ROOT / "manifests" / "runtimes").glob("*.yaml")} - {"kustomization"}

    assert values["runtimes"] == dict.fromkeys(files, True)


@pytest.mark.parametrize(("left_out", "kept"), [("openruntimes", {"node-20.0", "python-3.13"}), ("appfn", 24)])
def test_a_catalogue_can_be_left_out(left_out: str, kept: set[str] | int) -> None:
    names = {name for kind, _, name in rendered("--set", f"runtimes.{left_out}=false") if kind == "Runtime"}

    assert kept in (names, len(names))


def test_the_image_reaches_the_pods_of_projects_too() -> None:
    objects = rendered("--set", "image.repository=registry.example.com/appfn,image.pullPolicy=Always,image.tag=v2")

    for key in (OPERATOR, SHIM):
        assert container(objects, key)["image"] == "registry.example.com/appfn:v2"
        assert container(objects, key)["imagePullPolicy"] == "Always"
        assert environment(objects, key)["APPFN_IMAGE"] == "registry.example.com/appfn:v2"


def test_pods_pull_with_the_secrets_that_are_named() -> None:
    objects = rendered("--set", "imagePullSecrets[0].name=registry")

    for key in (OPERATOR, SHIM):
        assert pod(objects, key)["imagePullSecrets"] == [{"name": "registry"}]


@pytest.mark.parametrize(("part", "key"), [("operator", OPERATOR), ("shim", SHIM)])
def test_a_workload_is_placed_and_sized_as_its_values_say(part: str, key: tuple[str, str, str]) -> None:
    placed: Json = {
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    }
    asked = placed | {
        "resources": {"limits": {"memory": "2Gi"}},
        "podAnnotations": {"example.com/a": "1"},
        "serviceAccountAnnotations": {"example.com/role": "appfn"},
        "extraEnv": [{"name": "AWS_REGION", "value": "eu-west-1"}],
    }

    objects = rendered("--set-json", f"{part}={json.dumps(asked)}")

    assert {name: pod(objects, key)[name] for name in placed} == placed
    assert container(objects, key)["resources"]["limits"]["memory"] == "2Gi"
    assert objects[key]["spec"]["template"]["metadata"]["annotations"] == {
        "example.com/a": "1",
        "kubectl.kubernetes.io/default-container": part,
    }
    account = objects["ServiceAccount", SYSTEM, f"appfn-{part}"]
    assert account["metadata"]["annotations"] == {"example.com/role": "appfn"}
    assert environment(objects, key)["AWS_REGION"] == "eu-west-1"


def test_replicas_of_the_operator_are_as_many_as_are_asked_for() -> None:
    assert rendered("--set", "operator.replicas=2")[OPERATOR]["spec"]["replicas"] == 2


def test_shims_with_a_database_and_an_object_store_are_as_many_as_are_asked_for() -> None:
    given = "shim.replicas=3,shim.databaseSecret.name=pg,shim.databaseSecret.key=uri,config.APPFN_ARTIFACTS_URL=s3://b"

    objects = rendered("--set", given)

    assert objects[SHIM]["spec"]["replicas"] == 3
    database = {"secretKeyRef": {"name": "pg", "key": "uri"}}
    assert environment(objects, SHIM)["APPFN_DATABASE_URL"] == database
    assert "APPFN_DATABASE_URL" not in environment(objects, OPERATOR)


def test_config_reaches_operator_and_shim_with_numbers_in_full(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("config: {APPFN_MAX_ARTIFACT_BYTES: 1073741824, APPFN_FLUSH_SECONDS: 0.5, APPFN_LOG_LEVEL: DEBUG}")

    objects = rendered("--values", str(file))

    for key in (OPERATOR, SHIM):
        found = environment(objects, key)
        assert found["APPFN_MAX_ARTIFACT_BYTES"] == "1073741824"
        assert found["APPFN_FLUSH_SECONDS"] == "0.5"
        assert found["APPFN_LOG_LEVEL"] == "DEBUG"


def test_a_shim_that_may_drain_for_longer_is_given_the_time() -> None:
    objects = rendered("--set", "config.APPFN_DRAIN_SECONDS=90")

    assert pod(objects, SHIM)["terminationGracePeriodSeconds"] == 105


def test_processes_and_volume_are_as_asked_for() -> None:
    objects = rendered("--set", "shim.processes=4,shim.persistence.size=50Gi,shim.persistence.storageClassName=fast")

    assert environment(objects, SHIM)["APPFN_PROCESSES"] == "4"
    (claim,) = objects[SHIM]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "50Gi"
    assert claim["spec"]["storageClassName"] == "fast"


def test_in_another_namespace_nothing_refers_to_the_usual_one() -> None:
    objects = rendered(namespace="functions")

    assert {namespace for _, namespace, _ in objects} == {"", "functions"}
    assert SYSTEM not in json.dumps([item for (kind, _, _), item in objects.items() if not kind.startswith("Custom")])
    shim = environment(objects, ("StatefulSet", "functions", "appfn-shim"))
    assert shim["APPFN_SHIM_URL"] == "http://appfn-shim.functions.svc"
    assert shim["APPFN_OPERATOR_USER"] == "system:serviceaccount:functions:appfn-operator"


def test_a_parent_chart_can_bring_the_chart_along(tmp_path: Path) -> None:
    shutil.copytree(CHART, tmp_path / "charts" / "appfn")
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: parent, version: 1.0.0}")

    assert rendered("--set", "global.region=eu", chart=tmp_path) == rendered()

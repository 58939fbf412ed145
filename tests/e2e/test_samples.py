"""The samples of the documentation, by every way in."""

import json

import pytest
import yaml

from localcluster.install import build_config_maps
from support.appwrite import Appwrite
from support.e2e import ROOT, finished, make_key
from support.kubectl import Kubectl, condition
from support.shim import ShimDoor

SAMPLES = ["hello-node", "hello-python"]


@pytest.fixture(scope="module")
def demo(admin: Kubectl) -> Kubectl:
    inside = admin.within("demo")
    inside("apply", "--server-side", "-k", str(ROOT / "manifests" / "samples"))
    inside.apply(*build_config_maps("demo"))
    for name in SAMPLES:
        inside.wait_condition("fn", name, "Ready=True", within=300)
    return inside


@pytest.fixture(scope="module")
def demo_api(demo: Kubectl, door: ShimDoor) -> Appwrite:
    return Appwrite(base=door.url, project="demo", key=make_key(demo, "execution.write", "execution.read"))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_answers_a_synchronous_call(demo_api: Appwrite, name: str) -> None:
    answer = demo_api.execute(name, data='{"who":"you"}')

    assert answer.status == 201
    assert answer.body["status"] == "completed"
    assert answer.body["statusCode"] == 200
    said = json.loads(answer.body["response"])
    assert said["message"] == "Hello from Appwrite!"
    assert said["payload"] == '{"who":"you"}'
    assert said["trigger"] == "http"
    assert said["secretKey"] == "SECRET_KEY variable not found. You can set it in Function settings."


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_answers_an_asynchronous_call(demo_api: Appwrite, name: str) -> None:
    accepted = demo_api.execute(name, asynchronous=True)

    assert accepted.status == 202
    assert accepted.body["status"] == "waiting"
    done = finished(demo_api, name, accepted.body["$id"])
    assert done["status"] == "completed"
    assert json.loads(done["response"])["payload"].startswith("No payload provided.")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sample_runs_by_an_execution_resource(demo: Kubectl, name: str) -> None:
    manifest = (ROOT / "manifests" / "samples" / "execution.yaml").read_text()
    body = yaml.safe_load(manifest)
    body["metadata"] = {"generateName": f"{name}-"}
    body["spec"]["functionRef"]["name"] = name
    made = demo("create", "-f", "-", "-o", "name", stdin=json.dumps(body)).strip().removeprefix("execution.appfn.dev/")

    done = demo.wait_condition("exec", made, "Succeeded=True", within=60)
    assert done["status"]["status"] == "completed"
    assert json.loads(done["status"]["response"])["message"] == "Hello from Appwrite!"
    assert condition(done, "Succeeded")["reason"] == "Completed"


def test_the_columns_read_like_a_status_page(demo: Kubectl) -> None:
    lines = demo("get", "fn").splitlines()

    assert "READY" in lines[0]
    assert "RUNTIME" in lines[0]
    shown = {line.split()[0]: line for line in lines[1:]}
    assert all("True" in shown[name] for name in SAMPLES)


def test_each_sample_is_built_with_its_dependency(demo: Kubectl) -> None:
    for name in SAMPLES:
        build = demo.get("fdep", f"{name}-v1")["status"]["builds"][0]

        assert build["phase"] == "ready"
        assert build["artifact"]["digest"].startswith("sha256:")
        assert build["logTail"]

"""Appwrite's own clients, of both eras: each tells the whole story of a function. Writes docs/compatibility.md.

With APPFN_WRITE_COMPATIBILITY set the page is written; without, it must be what is on disk.
"""

import io
import os
import random
import tarfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from support.clients import others, page, story, story_cli
from support.clients.drivers import Access, start
from support.clients.released import ALL, Kind, Release, install
from support.clients.table import Report, World, tell
from support.e2e import ROOT, deployment, function, make_key
from support.kubectl import Kubectl
from support.shim import ShimDoor

PAGE = ROOT / "docs" / "compatibility.md"
STEPS = [*story.steps, *story_cli.steps, *others.steps]
CODE = """\
import json


def main(req, res):
    print("told", req.payload)
    return res.send(json.dumps({"payload": req.payload, "greeting": req.variables.get("GREETING")}))
"""
BALLAST = random.Random(5).randbytes(12 << 20)  # noqa: S311 - bytes that no compression makes fewer
TOGETHER = 2
"""Clients at once: the builds share the machine."""
PATIENCE = 400


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a function and ballast, another with the function alone, and both as tarballs."""
    folder = tmp_path_factory.mktemp("packages")
    for name, files in {
        "code": {"main.py": CODE.encode(), "ballast.bin": BALLAST},
        "spare": {"main.py": CODE.encode()},
    }.items():
        (folder / name).mkdir()
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz", compresslevel=1) as archive:
            for path, content in files.items():
                (folder / name / path).write_bytes(content)
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return folder


@pytest.fixture(scope="module")
def wanted(request: pytest.FixtureRequest) -> list[Release]:
    """The clients whose stories this run of the tests asks for."""
    items = [item for item in request.session.items if item.path == request.path]
    named: list[Release] = [item.callspec.params["release"] for item in items if hasattr(item, "callspec")]
    return named if len(named) == len(items) else list(ALL)


@pytest.fixture(scope="module")
def stories(
    project: Kubectl,
    system: Kubectl,
    door: ShimDoor,
    packages: Path,
    wanted: list[Release],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[Release, Future[Report]]]:
    """The stories, under way."""
    key = make_key(project, "functions.read", "functions.write", "executions.read", "executions.write")
    command = ("python", "-m", "appfn", "jwt", "--project", project.namespace, "--user", "ada")
    jwt = system("exec", "appfn-shim-0", "-c", "shim", "--", *command).strip()
    for release in (release for release in wanted if release.kind is Kind.WEB):
        made = function(release.slug, execute=["any"], variables=[{"name": "GREETING", "value": story.GREETING}])
        project.apply(made, deployment(release.slug, {"inline": {"files": {"main.py": CODE}}}))

    def told(release: Release) -> Report:
        install(release)
        page_ = release.kind is Kind.WEB
        if page_:
            project.wait_condition("fn", release.slug, "Ready=True", within=120)
        access = Access(
            endpoint=f"{door.url()}/v1", project=project.namespace, key="" if page_ else key, jwt=jwt if page_ else ""
        )
        suffix = "" if release.kind is Kind.CLI else ".tar.gz"
        with start(release, access, tmp_path_factory.mktemp(release.slug)) as client:
            world = World(
                client=client,
                release=release,
                function=release.slug,
                code=packages / f"code{suffix}",
                spare=packages / f"spare{suffix}",
            )
            return tell(STEPS, world)

    with ThreadPoolExecutor(TOGETHER) as pool:
        yield {release: pool.submit(told, release) for release in wanted}


@pytest.mark.parametrize("release", ALL, ids=lambda release: release.slug)
def test_every_call_of_a_client_comes_to_what_it_should(
    stories: Mapping[Release, Future[Report]], release: Release
) -> None:
    report = stories[release].result(PATIENCE)

    assert not report.broken, "\n".join(f"{call}: {why}" for call, why in report.broken.items())
    assert report.untold == []


def test_the_page_on_compatibility_says_what_came_of_them(stories: Mapping[Release, Future[Report]]) -> None:
    text = page.render(STEPS, {release: future.result(PATIENCE) for release, future in stories.items()})

    if "APPFN_WRITE_COMPATIBILITY" in os.environ:
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "docs/compatibility.md is out of date: run with APPFN_WRITE_COMPATIBILITY=1"

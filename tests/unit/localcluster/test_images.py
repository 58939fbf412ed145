import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from localcluster import aptsources, archive, baseimage, environment, images
from localcluster.aptsources import Source
from localcluster.errors import ClusterError

DOCKERFILE = """\
ARG BASE=debian:trixie-slim
FROM debian:trixie-slim AS build
RUN true
FROM --platform=linux/amd64 node:20 as assets
FROM scratch AS empty
from build
COPY --from=assets /a /a
"""


def test_bases_are_the_images_of_others_alone() -> None:
    assert images.bases(DOCKERFILE) == ["debian:trixie-slim", "node:20"]


@pytest.mark.parametrize(
    ("tag", "reference"),
    [
        ("debian:trixie-slim", "docker.io/library/debian:trixie-slim"),
        ("appfn/appfn:0.1.0", "docker.io/appfn/appfn:0.1.0"),
        ("appfn/appfn", "docker.io/appfn/appfn:latest"),
        ("localhost/a:1", "localhost/a:1"),
        ("registry.example.org:5000/a", "registry.example.org:5000/a:latest"),
    ],
)
def test_references_are_written_out_in_full(tag: str, reference: str) -> None:
    assert archive.full_reference(tag) == reference


@pytest.mark.parametrize(
    ("reference", "suite"),
    [
        ("docker.io/library/debian:trixie-slim", "trixie"),
        ("docker.io/library/debian:trixie", None),
        ("docker.io/library/node:20-slim", None),
        ("example.org/library/debian:trixie-slim", None),
    ],
)
def test_only_slim_debian_images_are_made_here(reference: str, suite: str | None) -> None:
    assert baseimage.debian_suite(reference) == suite


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY a /a\n")
    (tmp_path / "a").write_text("one")
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("ignored\n")
    return tmp_path


def key(context: Path, **bases: str) -> str:
    return images.build_key(context / "Dockerfile", context, bases)


def test_an_unchanged_context_has_the_same_key(context: Path) -> None:
    before = key(context)
    (context / "ignored").write_text("anything")
    os.utime(context / "a", (0, 0))
    assert key(context) == before


def test_a_change_of_content_mode_name_or_base_changes_the_key(context: Path) -> None:
    keys = {key(context), key(context, debian="sha256:1"), key(context, debian="sha256:2")}
    (context / "a").write_text("two")
    keys.add(key(context))
    (context / "a").chmod(0o755)
    keys.add(key(context))
    (context / "a").rename(context / "b")
    keys.add(key(context))
    assert len(keys) == 6


def test_a_list_of_the_dockerfiles_own_says_what_counts(context: Path) -> None:
    dockerfile = context / "images" / "Dockerfile"
    dockerfile.parent.mkdir()
    dockerfile.write_text("FROM scratch\n")
    (context / ".dockerignore").write_text("*\n!b\n")
    dockerfile.with_name("Dockerfile.dockerignore").write_text("*\n!a\n")

    def key_now() -> str:
        return images.build_key(dockerfile, context, {})

    before, other = key_now(), key(context)
    (context / "b").write_text("one")
    assert key_now() == before
    assert key(context) != other
    (context / "a").write_text("two")
    assert key_now() != before


def test_a_layer_of_one_file_is_always_the_same_bytes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!")
    digests: list[str] = []
    for name in ("one.tar", "two.tar"):
        os.utime(program, (len(digests), len(digests)))
        archive.file_layer(program, tmp_path / name)
        digests.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_an_archive_is_one_that_docker_load_reads(tmp_path: Path) -> None:
    program, layer, target = tmp_path / "program", tmp_path / "layer.tar", tmp_path / "image.tar"
    program.write_bytes(b"#!")
    archive.file_layer(program, layer)
    image = archive.Image(tag="docker.io/a/b:1", config=archive.entrypoint(["/program"], "65532"))
    image_id = archive.write(image, layer, target)
    with tarfile.open(target) as tar:
        contents = {member.name: tar.extractfile(member) for member in tar}
        manifest = json.load(contents["manifest.json"] or pytest.fail("no manifest"))[0]
        config = (contents[manifest["Config"]] or pytest.fail("no config")).read()
    assert manifest["RepoTags"] == ["docker.io/a/b:1"]
    assert image_id == f"sha256:{hashlib.sha256(config).hexdigest()}"
    document = json.loads(config)
    assert document["config"] == {"Entrypoint": ["/program"], "User": "65532"}
    assert document["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer.read_bytes()).hexdigest()}"]
    assert len(document["history"]) == len(document["rootfs"]["diff_ids"])


DEB822 = """\
Types: deb deb-src
# a comment within
URIs: http://mirror.example.org/debian/
Suites: bookworm
 bookworm-updates
Components: main

Enabled: no
Types: deb
URIs: http://off.example.org/debian
Suites: bookworm

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: bookworm-security
"""


def test_mirrors_are_read_from_sources_of_either_style() -> None:
    lines = "# deb http://no.example.org/debian a main\ndeb [arch=amd64] http://m.example.org/debian/ trixie main # x\n"
    assert aptsources.parse_list(lines) == [Source(uri="http://m.example.org/debian", suite="trixie")]
    assert aptsources.parse_deb822(DEB822) == [
        Source(uri="http://mirror.example.org/debian", suite="bookworm"),
        Source(uri="http://mirror.example.org/debian", suite="bookworm-updates"),
        Source(uri="http://mirror.example.org/debian-security", suite="bookworm-security"),
    ]


def test_without_a_debian_mirror_the_remedy_is_named() -> None:
    with pytest.raises(ClusterError, match=r"mirror of Debian; name one in /etc/apt/sources\.list\.d"):
        aptsources.debian_mirror([Source(uri="http://mirror.example.org/ubuntu", suite="noble")])


def test_security_updates_are_looked_for_beside_debian_itself() -> None:
    only = [Source(uri="http://mirror.example.org/debian", suite="trixie")]
    assert aptsources.security_mirror(only) == "http://mirror.example.org/debian-security"


def test_the_base_image_takes_updates_from_the_hosts_mirrors() -> None:
    text = baseimage.apt_sources("trixie", aptsources.parse_deb822(DEB822))
    assert [(source.uri, source.suite) for source in aptsources.parse_deb822(text)] == [
        ("http://mirror.example.org/debian", "trixie"),
        ("http://mirror.example.org/debian", "trixie-updates"),
        ("http://mirror.example.org/debian-security", "trixie-security"),
    ]
    assert text.count("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg") == 2


def test_variables_of_package_managers_are_passed_on_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.example.org/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/only/here")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = environment.package_environment()
    assert found["PIP_INDEX_URL"] == "https://pypi.example.org/simple"
    assert not {"PIP_FIND_LINKS", "AWS_SECRET_ACCESS_KEY"} & set(found)


def test_builds_are_led_to_local_authorities_only_where_there_are_any(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("PEM")
    monkeypatch.setattr(environment, "_BUNDLE", bundle)
    monkeypatch.setattr(environment, "_LOCAL_AUTHORITIES", tmp_path / "local")
    without = environment.build_environment()
    assert without.authorities is None
    assert "SSL_CERT_FILE" not in without.variables
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "company.crt").write_text("PEM")
    within = environment.build_environment("/ca/bundle.crt")
    assert within.authorities == "PEM"
    assert within.variables["SSL_CERT_FILE"] == within.variables["NODE_EXTRA_CA_CERTS"] == "/ca/bundle.crt"

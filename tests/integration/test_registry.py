"""A real registry with authentication: pulls from it, and its refusals."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from cutover.core.errors import ConfigError
from cutover.system import registry
from tests.helpers import workflows
from tests.helpers.registry_image import NAME, TOKEN, registry_image

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine


def docker(*words: str) -> str:
    """The output of one docker command, which must succeed."""
    done = subprocess.run(("docker", *words), check=True, capture_output=True, text=True, timeout=300)
    return done.stdout.strip()


@dataclass(frozen=True)
class Registry:
    """The address of the registry, and an environment with credentials for it."""

    host: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Debian's registry on a free port of 127.0.0.1, with one user."""
    empty = tmp_path_factory.mktemp("empty")
    image = registry_image(empty)
    name = f"cutover-test-registry-{secrets.token_hex(4)}"
    docker("run", "--detach", "--rm", "--name", name, "--publish", "127.0.0.1::5000", image)
    try:
        host = docker("port", name, "5000/tcp").splitlines()[0]
        answers(f"http://{host}/v2/")
        yield Registry(host, {"GHCR_HOST": host, "GHCR_USERNAME": NAME, "GHCR_TOKEN": TOKEN})
    finally:
        docker("rm", "--force", "--volumes", name)


def answers(url: str) -> None:
    """Wait until the registry answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(url, trust_env=False, timeout=5).status_code == httpx.codes.UNAUTHORIZED:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "the registry did not answer in 60 s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def pushed(real: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.ImageFact]:
    """A small image that has been pushed to the registry."""
    reference = f"{real.host}/ana/api:sha-1"
    subprocess.run(
        ("docker", "import", "--change", "LABEL cutover.test=registry", "-", reference),
        input=subprocess.run(("tar", "-cf", "-", "-T", os.devnull), check=True, capture_output=True).stdout,
        check=True,
        capture_output=True,
    )
    try:
        push(reference, tmp_path_factory.mktemp("docker"))
        image = registry.local_image(reference)
        assert image is not None
        yield image
    finally:
        subprocess.run(("docker", "image", "rm", "--force", reference), check=False, capture_output=True)


def push(reference: str, config: Path) -> None:
    """Push *reference* by the docker CLI, with a login that is stored only in the folder *config*."""
    environment = os.environ | {"DOCKER_CONFIG": str(config)}
    login = ("docker", "login", "--username", NAME, "--password-stdin", reference.split("/", 1)[0])
    subprocess.run(
        login, check=True, capture_output=True, input=TOKEN, text=True, env=environment, timeout=60
    )
    subprocess.run(
        ("docker", "push", reference), check=True, capture_output=True, env=environment, timeout=300
    )


def forget(image: registry.ImageFact) -> None:
    """Remove *image* from this host."""
    for name in (image.reference, image.digest):
        subprocess.run(("docker", "image", "rm", name), check=False, capture_output=True)
    assert registry.local_image(image.reference) is None


def test_pulls_what_was_pushed(real: Registry, pushed: registry.ImageFact) -> None:
    """A missing image is pulled; ID, digest and architecture are those of the pushed one."""
    forget(pushed)
    pulled = registry.ensure_image(pushed.reference, real.environment)
    assert pulled == pushed
    assert pushed.digest.startswith(f"{real.host}/ana/api@sha256:")


def test_leaves_what_is_here(real: Registry, pushed: registry.ImageFact) -> None:
    """A local image is not pulled again and needs no login."""
    registry.ensure_image(pushed.reference, real.environment)
    assert registry.ensure_image(pushed.reference, {}) == pushed


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("api:sha-9", {}, "{host} has no {reference}: look at repository and tag"),
        ("nothing:sha-1", {}, "{host} has no {reference}: look at repository and tag"),
        (
            "api:sha-9",
            {"GHCR_TOKEN": "canary-wrong"},
            "{host} refused GHCR_USERNAME and GHCR_TOKEN: the token may have expired or lack read:packages",
        ),
        (
            "api:sha-9",
            {"GHCR_TOKEN": ""},
            "{host} denies {reference}: not signed in: docker login there first",
        ),
    ],
)
def test_says_why_there_is_no_image(real: Registry, name: str, change: dict[str, str], expected: str) -> None:
    """A wrong tag, a wrong repository, a wrong password and a missing login have different messages."""
    reference = f"{real.host}/ana/{name}"
    with pytest.raises(ConfigError) as raised:
        registry.ensure_image(reference, real.environment | change)
    said, _, here = str(raised.value).partition("; ")
    assert said == expected.format(host=real.host, reference=reference)
    assert here in {"on this host are its tags sha-1", "no tag of it is on this host"}


def test_says_that_nobody_listens() -> None:
    """The error names a registry that does not respond."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            ConfigError, match=f"^{host}/ana/api:sha-1 is not on this host, and {host} does not answer"
        ):
            registry.ensure_image(f"{host}/ana/api:sha-1", {})


def test_leaves_no_login_behind(
    real: Registry, pushed: registry.ImageFact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull with credentials stores none: neither in the docker configuration nor for the next pull."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    forget(pushed)
    registry.ensure_image(pushed.reference, real.environment)
    assert list(tmp_path.iterdir()) == []
    forget(pushed)
    with pytest.raises(ConfigError, match="not signed in"):
        registry.ensure_image(pushed.reference, {})
    registry.ensure_image(pushed.reference, real.environment)


def test_uses_a_stored_login(
    real: Registry, pushed: registry.ImageFact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without GHCR_TOKEN, what `docker login` has stored is used."""
    push(pushed.reference, tmp_path)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    forget(pushed)
    assert registry.ensure_image(pushed.reference, {}) == pushed


def test_the_build_job_pushes_what_the_session_pulls(real: Registry, tmp_path: Path) -> None:
    """The steps of release.yml name, build and push an image, and leave no login behind."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL cutover.test=registry\n")
    (tmp_path / "prepared").touch()
    login, outputs = tmp_path / "login", tmp_path / "outputs"
    environment = {
        "PATH": os.environ["PATH"], "DOCKER_CONFIG": str(login), "DOCKER_BUILDKIT": "0", "GITHUB_OUTPUT": str(outputs),
        "GITHUB_REPOSITORY": "Ana/Recall", "GITHUB_SHA": "4f1c2aa", "GITHUB_ACTOR": NAME, "REGISTRY": real.host,
        "IMAGE": "api", "CONTEXT": ".", "DOCKERFILE": "Dockerfile", "TOKEN": TOKEN, "PREPARE": "test -e prepared",
    }  # fmt: skip
    release = workflows.read("release.yml")
    said = ""
    for step in ("Name the image", "Prepare", "Build", "Push"):
        named = dict(line.split("=", 1) for line in outputs.read_text().split()) if outputs.exists() else {}
        done = subprocess.run(
            ("bash", "-e", "-c", workflows.lines(release, step)), cwd=tmp_path, timeout=300, check=False,
            env=environment | {"REFERENCE": named.get("reference", "")}, capture_output=True, text=True,
        )  # fmt: skip
        said += done.stdout + done.stderr
        assert done.returncode == 0, said
    assert named == {"tag": "sha-4f1c2aa", "reference": f"{real.host}/ana/recall/api:sha-4f1c2aa"}
    built = registry.local_image(named["reference"])
    assert built is not None
    forget(built)
    try:
        assert registry.ensure_image(named["reference"], real.environment).id == built.id
    finally:
        subprocess.run(
            ("docker", "image", "rm", "--force", named["reference"]), check=False, capture_output=True
        )
    assert real.host not in (login / "config.json").read_text()
    assert TOKEN not in said

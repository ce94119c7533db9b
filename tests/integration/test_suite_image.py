"""The image of the suite, built and run as the comments in its Dockerfile describe."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from examples.releases import build
from examples.stand import Stand
from tests.helpers import wheelhouse
from tests.helpers.http_service import release_answer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.engine

IMAGE = "cutover-test-suite:1"


@pytest.fixture(scope="module")
def image(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, built in a copy of the checkout with a wheel folder; the engine caches apt's layers."""
    clone = tmp_path_factory.mktemp("clone")
    subprocess.run(("tar", "-C", str(clone), "-xf", "-"), input=wheelhouse.checkout(), check=True)
    shutil.copytree(wheels, clone / "wheels")
    build = ("docker", "build", "--quiet", "--tag", IMAGE, "--build-arg", "PIP_NO_INDEX=1", ".")
    subprocess.run(build, cwd=clone, check=True, timeout=500, env=ENVIRONMENT)
    return IMAGE


CALLER = ("--user", f"{os.getuid()}:{os.getgid()}")
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "DOCKER_BUILDKIT": "0"}


@pytest.fixture
def url() -> Iterator[str]:
    """URL of a small service that is always ready."""
    with serving(release_answer("sha-1", service="small")) as service:
        yield service.url


def run(image: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the image on the host network in *folder*, as the current user."""
    place = ("--volume", f"{folder}:{folder}", "--workdir", str(folder), "--network", "host", *CALLER)
    return subprocess.run(
        ("docker", "run", "--rm", *place, image, *words),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_gates_a_url(image: str, url: str, tmp_path: Path) -> None:
    """A gate in the container passes and leaves its report in the mounted folder."""
    done = run(image, tmp_path, "pytest", "--pyargs", "cutover.smoke", f"--target={url}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "reports/latest/report.html").is_file()


def test_passes_on_how_it_ended(image: str, tmp_path: Path) -> None:
    """The container exits with the code of the session, and a usage error is one line."""
    done = run(image, tmp_path, "pytest", "--pyargs", "cutover.smoke")
    assert done.returncode == 4
    assert "no target" in done.stderr
    assert "cutover.toml" not in done.stderr


def test_is_not_root(image: str) -> None:
    """Without `--user` the image runs as an unprivileged user that can run every program of the suite."""
    argv = ("docker", "run", "--rm", image, "sh", "-c", "id -u && pytest --version && cutover --help")
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "10001"


def mounts(stand: Stand) -> tuple[str, ...]:
    """Volume options for the engine's socket, the client and the stand's folder, as in docs/dev/deploy_server.md."""
    client = shutil.which("docker")
    plugins = json.loads(stand.docker("info", "--format", "{{json .ClientInfo.Plugins}}"))
    compose = next(each["Path"] for each in plugins if each["Name"] == "compose")
    pairs = (
        "/var/run/docker.sock:/var/run/docker.sock",
        f"{client}:/usr/bin/docker:ro",
        f"{compose}:/usr/libexec/docker/cli-plugins/docker-compose:ro",
        f"{stand.folder}:{stand.folder}",
    )
    return tuple(word for pair in pairs for word in ("--volume", pair))


def test_reverts_what_a_killed_session_left(image: str, tmp_path: Path) -> None:
    """The guard dies with the container, so the init process reverts the open release before it exits."""
    stand = Stand(tmp_path, f"suite{secrets.token_hex(3)}")
    name = f"{stand.name}-session"
    build("sha-7700001")
    stand.make()
    try:
        words = ("pytest", "--pyargs", "cutover.smoke", "--target=green", "--deploy=sha-7700001")
        place = (
            "--workdir",
            str(stand.folder),
            "--env",
            f"CUTOVER_CONFIG={stand.config}",
            "--network",
            "host",
            *CALLER,
        )
        stand.docker("run", "--detach", "--name", name, *place, *mounts(stand), image, *words)
        wait(lambda: (stand.state / "open").exists() or not running(stand, name))
        assert running(stand, name), stand.docker("logs", name)
        os.kill(pid_of(stand, name, "pytest"), signal.SIGKILL)
        wait(lambda: not running(stand, name))
        assert stand.docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "137"
        assert (stand.status()["open"], stand.running("green")) == (None, [])
    finally:
        stand.docker("rm", "--force", name, check=False)
        stand.remove()


def running(stand: Stand, name: str) -> bool:
    """Whether the container is running."""
    return stand.docker("inspect", "--format", "{{.State.Running}}", name).strip() == "true"


def pid_of(stand: Stand, name: str, word: str) -> int:
    """Host process id of the Python process in the container whose arguments contain *word*."""
    rows = stand.docker("top", name, "-eo", "pid,args").splitlines()[1:]
    return next(int(row.split()[0]) for row in rows if "python" in row and word in row)


def wait(until: Callable[[], bool]) -> None:
    """Poll *until* until it holds; fails after the deadline."""
    deadline = time.monotonic() + 300
    while not until():
        assert time.monotonic() < deadline, "not within 300 s"
        time.sleep(0.05)

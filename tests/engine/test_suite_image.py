"""The image of the suite, built and run as its own first lines say."""

from __future__ import annotations

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine import wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.engine

IMAGE = "cutover-test-suite:1"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The suite, from a folder of wheels of the pinned versions; apt's layer stays with the engine."""
    wheels = wheelhouse.fill(tmp_path_factory.mktemp("wheels"))
    build = ("docker", "build", "--quiet", "--tag", IMAGE, "--file", str(wheelhouse.ROOT / "Dockerfile"))
    subprocess.run((*build, str(wheels)), check=True, timeout=500, env=ENVIRONMENT)
    return IMAGE


ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "DOCKER_BUILDKIT": "0"}


class Service(BaseHTTPRequestHandler):
    """A small service that is ready."""

    def do_GET(self) -> None:
        """Answer what a gate of a URL asks."""
        ready, version = {"ready": True}, {"service": "small", "version": "sha-1"}
        body = json.dumps(version if self.path == "/version" else ready).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """Where the small service answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(image: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The suite on the host's network, at work in *folder*."""
    place = ("--volume", f"{folder}:{folder}", "--workdir", str(folder), "--network", "host")
    return subprocess.run(
        ("docker", "run", "--rm", *place, image, *words),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_gates_a_url(image: str, url: str, tmp_path: Path) -> None:
    """Without Python on the host a gate runs, passes, and leaves its report there."""
    done = run(image, tmp_path, "pytest", "--pyargs", "cutover.smoke", f"--target={url}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "reports/latest/report.html").is_file()


def test_passes_on_how_it_ended(image: str, tmp_path: Path) -> None:
    """The exit code of the session is that of the container, and a usage error stays one line."""
    done = run(image, tmp_path, "pytest", "--pyargs", "cutover.smoke")
    assert done.returncode == 4
    assert "no target" in done.stderr
    assert "cutover.toml" not in done.stderr

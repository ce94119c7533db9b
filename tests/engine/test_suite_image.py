"""The image of the suite, built and run as its own first lines say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
IMAGE = "cutover-test-suite:1"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The suite, from a folder of wheels of the pinned versions; apt's layer stays with the engine."""
    folder = tmp_path_factory.mktemp("suite")
    pins = re.findall(r"^[\w.-]+==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (folder / "pins.txt").write_text("\n".join(pins))
    wheel = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation")
    where = ("--wheel-dir", str(folder / "wheels"), "--constraint", str(folder / "pins.txt"), str(ROOT))
    subprocess.run((*wheel, *where), check=True, timeout=300)
    build = ("docker", "build", "--quiet", "--tag", IMAGE, "--file", str(ROOT / "Dockerfile"))
    subprocess.run((*build, str(folder / "wheels")), check=True, timeout=500, env={**ENVIRONMENT})
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

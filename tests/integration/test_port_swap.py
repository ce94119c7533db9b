"""The port swap on a real engine: the new color takes over the users' port and gives it back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from cutover.proxy.base import ProxyClient
from cutover.proxy.port_swap import PortSwap, write_swapped_releases
from cutover.proxy.proof import ProbePlan, SwitchProbe
from cutover.system.compose import Compose
from cutover.system.process import run
from examples.images import image
from tests.helpers.color_servers import free_port

pytestmark = pytest.mark.engine
DEADLINE_S = 120.0
SERVER = """
import http.server, os, socketserver
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Color", os.environ["COLOR"])
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("", 8000), Answer).serve_forever()
"""


@dataclass
class Stand:
    """Two Compose projects without a proxy: blue has the users' port, green a port of its own."""

    driver: PortSwap
    folder: Path

    def compose(self, color: str) -> Compose:
        """The Compose project of *color*."""
        return Compose(self.driver.projects[color], self.folder / f"{color}.yml")

    def revert(self) -> None:
        """Run the undo lines as revert.sh does."""
        done = run(("sh", "-eu", "-c", "\n".join(self.driver.switch("green").undo)), deadline_s=DEADLINE_S)
        assert done.ok, done

    def container(self, color: str) -> str:
        """Id of the running container of *color*; empty if there is none."""
        label = f"label=com.docker.compose.project={self.driver.projects[color]}"
        return run(("docker", "ps", "--quiet", "--filter", label), deadline_s=DEADLINE_S).out.strip()


def release(color: str, port: int) -> str:
    """A rendered release: a small server that sends its color."""
    service = {
        "image": image("base"),
        "command": ["python3", "-u", "-c", SERVER],
        "environment": {"COLOR": color},
        "ports": [{"target": 8000, "published": str(port), "host_ip": "127.0.0.1", "protocol": "tcp"}],
        "healthcheck": {
            "test": ["CMD", "curl", "-fsS", "http://127.0.0.1:8000/"],
            "interval": "1s",
            "retries": 30,
        },
        "stop_signal": "SIGKILL",
    }
    return json.dumps({"services": {"api": service}})


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Both colors running, blue on the users' port."""
    live, idle, tag = free_port(), free_port(), f"cutover-proxies-swap-{free_port()}"
    state = tmp_path / "state"
    for name in ("restore-service.sh", "ensure-running.sh"):
        state.mkdir(exist_ok=True)
        (state / name).write_text((resources.files("cutover.release") / "scripts" / name).read_text())
    files = {}
    for color, port in (("blue", live), ("green", idle)):
        (state / "releases" / color).mkdir(parents=True)
        files[color] = tmp_path / f"{color}.yml"
        files[color].write_text(release(color, port))
    write_swapped_releases(state, files, "api", live)
    way = ProxyClient(f"http://127.0.0.1:{live}", "/", "/", "X-Color")
    seen = Stand(PortSwap(live, state, {each: f"{tag}-{each}" for each in files}, "api", way), tmp_path)
    try:
        for color in files:
            done = run(seen.compose(color).up("api", wait_s=60), deadline_s=DEADLINE_S)
            assert done.ok, done
        yield seen
    finally:
        for color in files:
            run(seen.compose(color).words("down", "--volumes", "--timeout", "1"), deadline_s=DEADLINE_S)


def test_the_port_is_taken_over_and_given_back(stand: Stand) -> None:
    """The gap is measured, the new color answers on the users' port, and the undo switches back, also if run twice."""
    blue = stand.container("blue")
    stand.revert()  # of what never happened
    assert stand.container("blue") == blue
    assert stand.container("green") != ""
    assert stand.driver.agreed().ok, stand.driver.agreed()

    prover = SwitchProbe(
        stand.driver.client, ProbePlan("/", open_connections=5, new_connections=5, gap_announced=True)
    )
    try:
        assert prover.begin().ok
        prover.about_to_switch()
        done = run(stand.driver.switch("green").do, deadline_s=DEADLINE_S)
        assert done.ok, done
        proof = prover.prove("green")
    finally:
        prover.close()
    assert proof.verdict().ok, proof
    assert proof.failed_in_gap > 0
    assert proof.longest_gap_ms > 0
    assert stand.driver.live().color == "green"
    assert stand.driver.agreed().ok
    assert stand.container("blue") == ""
    assert stand.driver.control().answers()

    for _ in ("first", "again"):
        stand.revert()
        assert stand.driver.live().color == "blue"
        assert stand.driver.agreed().ok
    assert stand.container("green") == ""

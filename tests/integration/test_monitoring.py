"""The shipped monitoring in Prometheus, Alertmanager and blackbox exporter, queried by the shipped check."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cutover.core.config_schema import Alerts
from cutover.core.verdict import Outcome, Verdict
from cutover.gate.environment_checks import alerts
from examples.images import image

pytestmark = pytest.mark.engine
SHIPPED = Path(__file__).parents[2] / "deploy" / "monitoring"
DEADLINE_S = 120.0
CHECK_ALL = """
promtool check config prometheus.yml && promtool test rules rules_test.yml &&
amtool check-config alertmanager.yml && prometheus-blackbox-exporter --config.file=blackbox.yml --config.check
"""
RUN_ALL = """
prometheus-alertmanager --config.file=alertmanager.yml --storage.path=/data/a --cluster.listen-address= \
    --web.listen-address=127.0.0.1:{alertmanager} &
prometheus-blackbox-exporter --config.file=blackbox.yml --web.listen-address=127.0.0.1:{blackbox} &
exec prometheus --config.file=prometheus.yml --storage.tsdb.path=/data/p \
    --web.listen-address=127.0.0.1:{prometheus}
"""
RULES = ("HealthEndpointDown", "HealthEndpointUnwatched", "ErrorRateHigh", "ErrorRateUnwatched")


class Service(BaseHTTPRequestHandler):
    """A service that is ready until a test changes that."""

    status = 200

    def do_GET(self) -> None:
        """Respond with readiness or metrics."""
        body = b'{"ready": true}' if self.path == "/readyz" else b"http_requests_total 1\n"
        self.send_response(type(self).status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


@pytest.fixture(scope="module")
def reference() -> str:
    """Image with Prometheus, Alertmanager and blackbox exporter."""
    return image("prometheus")


@pytest.fixture
def ports() -> dict[str, int]:
    """Free ports for the three programs."""
    with ExitStack() as stack:
        sockets = {
            name: stack.enter_context(socket.socket()) for name in ("prometheus", "alertmanager", "blackbox")
        }
        for each in sockets.values():
            each.bind(("127.0.0.1", 0))
        return {name: each.getsockname()[1] for name, each in sockets.items()}


@pytest.fixture
def service() -> Iterator[str]:
    """Base URL of a running service that the blackbox exporter probes."""
    Service.status = 200
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def configured(tmp_path: Path, ports: dict[str, int], service: str) -> Path:
    """The shipped files with the test's ports and targets, and with seconds instead of minutes."""
    folder = tmp_path / "monitoring"
    shutil.copytree(SHIPPED, folder)
    for name, words in {
        "prometheus.yml": {
            "9093": str(ports["alertmanager"]), "9115": str(ports["blackbox"]), "_interval: 15s": "_interval: 1s",
        },
        "targets/health.yml": {"127.0.0.1:8080": service},
        "targets/service.yml": {"127.0.0.1:8000": service, "127.0.0.1:8001": service},
        "rules.yml": {"for: 30s": "for: 1s"},
        "alertmanager.yml": {"group_wait: 10s": "group_wait: 0s"},
    }.items():  # fmt: skip
        text = (folder / name).read_text()
        for old, new in words.items():
            assert old in text, f"{name} has no {old}"
            text = text.replace(old, new)
        (folder / name).write_text(text)
    for path in (tmp_path, folder, folder / "targets"):
        path.chmod(0o755)  # the image does not run as root
    return folder


@pytest.fixture
def running(reference: str, configured: Path, ports: dict[str, int]) -> Iterator[str]:
    """A container that runs all three programs; yields its name."""
    name = f"watch-monitoring-{uuid.uuid4().hex[:8]}"
    mount = ("--volume", f"{configured}:/etc/monitoring:ro", "--workdir", "/etc/monitoring")
    words = ("--network", "host", "--init", *mount, reference, "sh", "-c", RUN_ALL.format(**ports))
    docker("run", "--detach", "--name", name, *words)
    yield name
    docker("rm", "--force", "--volumes", name)


def docker(*words: str) -> str:
    """Output of a docker command; RuntimeError if it fails."""
    done = subprocess.run(("docker", *words), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout + done.stderr


def until(ask: Callable[[], Verdict], wanted: Callable[[Verdict], bool]) -> Verdict:
    """The first verdict that is *wanted*, or the last one at the deadline."""
    end = time.monotonic() + DEADLINE_S
    while True:
        verdict = ask()
        if wanted(verdict) or time.monotonic() > end:
            return verdict
        time.sleep(0.2)


def test_the_shipped_files_hold_what_they_promise(reference: str) -> None:
    """The tools of Prometheus, Alertmanager and blackbox exporter accept the files, and the rule tests pass."""
    mount = ("--volume", f"{SHIPPED}:/etc/monitoring:ro", "--workdir", "/etc/monitoring")
    said = docker("run", "--rm", *mount, reference, "sh", "-c", CHECK_ALL)
    assert "Unit Testing:  rules_test.yml" in said
    assert "Config file is ok" in said


def test_loaded_missing_firing_and_silent(running: str, ports: dict[str, int]) -> None:
    """Yes; no for a missing rule, a wrong route or a firing rule; unknown if the server is silent."""
    wanted = Alerts(
        prometheus=f"http://127.0.0.1:{ports['prometheus']}",
        alertmanager=f"http://127.0.0.1:{ports['alertmanager']}",
        rules=RULES,
        receiver="on-call",
    )
    good = until(lambda: alerts(wanted), lambda verdict: verdict.ok)
    assert good.reason == "4 rules loaded, healthy, not firing, routed to on-call", docker("logs", running)

    missing = alerts(wanted.model_copy(update={"rules": (*RULES, "NobodyWroteThis")}))
    assert (missing.outcome, missing.reason) == (Outcome.NO, "rule NobodyWroteThis is not loaded")

    unrouted = alerts(wanted.model_copy(update={"receiver": "nobody"}))
    assert (unrouted.outcome, unrouted.reason) == (
        Outcome.NO,
        "expected a route to nobody for HealthEndpointDown, got on-call",
    )

    Service.status = 503
    firing = until(lambda: alerts(wanted), lambda verdict: verdict.outcome is Outcome.NO)
    assert firing.reason == "rule HealthEndpointDown is firing"

    docker("stop", "--time", "1", running)
    silent = alerts(wanted)
    assert (silent.outcome, silent.reason) == (
        Outcome.UNKNOWN,
        f"{wanted.prometheus} does not answer: connection refused",
    )

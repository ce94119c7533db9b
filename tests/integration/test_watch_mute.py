"""All watch checks on a healthy service, then with an engine that does not respond and a stopped proxy."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.bench_detect import settings_of, stage, users
from benchmarks.detect_cases import Scene
from cutover.core.evidence import Evidence
from cutover.core.target import ControlProbe, Target
from cutover.core.verdict import Outcome
from cutover.gate.environment_checks import disk
from cutover.system import docker, http
from cutover.watch.check import WatchCheck
from cutover.watch.suite import WatchSuite

pytestmark = pytest.mark.engine
YES, UNKNOWN = Outcome.YES, Outcome.UNKNOWN
ENGINE = "/var/run/docker.sock"
DEADLINE_S = 180.0
ABOUT_CONTAINERS = {
    "restarts",
    "health",
    "log errors",
    "new errors",
    "cpu",
    "memory",
    "oom",
    "leak",
    "dependency db",
}
ABOUT_REQUESTS = {"availability", "color", "endpoints", "5xx", "routes", "latency"}


@dataclass
class Engine:
    """A proxy socket in front of the engine that stops forwarding once *mute* is set."""

    path: Path
    mute: threading.Event = field(default_factory=threading.Event)
    open: list[socket.socket] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Accept connections until the listener is closed."""
        while True:
            try:
                theirs, _ = listener.accept()
            except OSError:
                return
            ours = socket.socket(socket.AF_UNIX)
            self.open += [theirs, ours]
            ours.connect(ENGINE)
            for one, other in ((theirs, ours), (ours, theirs)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while some := one.recv(65536):
                if self.mute.is_set():
                    return
                other.sendall(some)
            other.shutdown(socket.SHUT_WR)


@contextmanager
def engine_behind(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Make this process use the proxy socket as its engine until the block ends."""
    made = Engine(folder / "engine.sock")
    with socket.socket(socket.AF_UNIX) as listener, patch.context() as env:
        listener.bind(str(made.path))
        listener.listen(64)
        threading.Thread(target=made.serve, args=(listener,), daemon=True).start()
        env.setenv("DOCKER_HOST", f"unix://{made.path}")
        docker.client.cache_clear()
        try:
            yield made
        finally:
            docker.client.cache_clear()
            for each in made.open:
                each.close()


def checks(scene: Scene) -> list[WatchCheck]:
    """The default checks of the watch; green is live."""
    url = f"http://127.0.0.1:{scene.proxy.port}"
    live = Target("live", "live", url, "green", scene.live.project, through_proxy=True)
    old = Target("blue", "color", f"http://127.0.0.1:{scene.old.port}", "blue", scene.old.project)
    alive = http.HttpClient(url, 5.0)
    control = ControlProbe(
        lambda: isinstance(http.send_request(alive, "GET", "/__cutover/alive"), http.HttpResponse)
    )
    return WatchSuite(settings_of(scene), live, old, control, Evidence(), time.time()).checks()


def until(asked: list[WatchCheck], names: set[str], outcome: Outcome) -> dict[str, str]:
    """Poll until all checks in *names* have *outcome* at once; return the other verdicts at the deadline."""
    end = time.monotonic() + DEADLINE_S
    while True:
        now = time.monotonic()
        for each in asked:
            each.poll(now)
        others = {
            each.name: str(each.verdict())
            for each in asked
            if each.name in names and each.verdict().outcome is not outcome
        }
        if not others or time.monotonic() > end:
            return others
        time.sleep(0.1)


def test_steady_then_mute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A healthy service is yes for every check; a silent engine and a stopped proxy are unknown for theirs."""
    with stage() as scene, users(f"http://127.0.0.1:{scene.proxy.port}"):
        time.sleep(1.0)  # the old color gets requests too
        scene.proxy.go("green")
        with engine_behind(tmp_path, monkeypatch) as behind:
            asked = checks(scene)
            every = {each.name for each in asked}
            assert every == ABOUT_CONTAINERS | ABOUT_REQUESTS | {"old color"}
            assert until(asked, every - {"leak"}, YES) == {}

            behind.mute.set()
            assert until(asked, ABOUT_CONTAINERS, UNKNOWN) == {}
            assert disk(settings_of(scene))[0].outcome is UNKNOWN

        subprocess.run(("kill", (scene.proxy.folder / "nginx.pid").read_text().strip()), check=True)
        assert until(asked, ABOUT_REQUESTS, UNKNOWN) == {}

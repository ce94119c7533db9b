"""The session of a coordinator: its plan, and the ids of the tests of its hosts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cutover.core.evidence import Check, Evidence
from cutover.core.result import Status
from cutover.core.verdict import yes
from cutover.plugin import hosts as plugin_hosts
from cutover.plugin.console import SignalHandlers
from cutover.plugin.hosts import CoordinatorHooks
from cutover.plugin.hosts import test_on as id_on
from cutover.release.hosts import HostBatch, HostsEnd, HostsPlan
from tests.plugin.project import LOOKING, Project

HOSTS = """
[proxy]
driver = "nginx"
url = "http://127.0.0.1:9"
[hosts]
names = ["web-1.invalid", "web-2.invalid", "web-3.invalid"]
path = "/srv/trap"
watch = ["15m", "2m"]
"""
ASKED = ("--on-hosts=all", "--target=idle", "--switch", "--deploy=sha-2")


@pytest.fixture
def hosts(project: Project) -> Project:
    """A project with three hosts, none of which exists."""
    path = project.folder / "cutover.toml"
    path.write_text(path.read_text() + HOSTS)
    project.test("def test_good(target):\n    pass\n")
    return project


def run(project: Project, *more: str, **environment: str) -> tuple[int, str]:
    """Exit code of a coordinator's session, and what it said, without line breaks."""
    words = [word for word in project.words(*ASKED, *more) if word != "--target=green"]
    done = subprocess.run(
        words, cwd=project.folder, env=project.environment(**environment), capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_plan_names_the_batches_and_asks_no_host(hosts: Project) -> None:
    """`--plan` says which hosts are switched when and how long they are watched; exit 0."""
    code, said = run(hosts, "--plan")
    assert code == 0, said
    assert "web-1.invalid: watched for 15 min" in said
    assert "web-3.invalid: watched for 2 min" in said
    assert "PLAN nothing was checked, nothing was changed." in said


@pytest.mark.parametrize("option", LOOKING)
def test_an_option_that_only_shows_something_asks_no_host(hosts: Project, option: str) -> None:
    """Nothing is released for it: exit 0, as in a session on one host."""
    code, said = run(hosts, option)
    assert code == 0, said
    assert ".invalid" not in said
    assert not (hosts.folder / "reports" / "latest").exists()


@pytest.mark.parametrize("engine", ["unix:///nowhere/docker.sock", "ssh://ana@web-9"])
def test_hosts_that_do_not_exist_are_told_in_one_line_each(hosts: Project, engine: str) -> None:
    """Exit 4, a line for each host with the way out, and no report; the engine here is not asked for."""
    code, said = run(hosts, DOCKER_HOST=engine)
    assert code == 4, said
    for host in ("web-1.invalid", "web-2.invalid", "web-3.invalid"):
        assert f"{host}: no host of that name: name it as `ssh` knows it" in said
    assert "Traceback" not in said
    assert not [*(hosts.folder / "reports").glob("2*")]


def test_a_refused_session_names_no_report_and_leaves_the_last_one(hosts: Project) -> None:
    """Its folder is deleted: pytest names no file of it, and `reports/latest` is that of the session before."""
    before = hosts.folder / "reports" / "20250101T000000Z-idle-sha-1"
    before.mkdir(parents=True)
    (hosts.folder / "reports" / "latest").symlink_to(before.name)
    code, said = run(hosts)
    assert code == 4, said
    assert "generated" not in said.lower()
    assert said.endswith("add it to ~/.ssh/config")
    assert (hosts.folder / "reports" / "latest").resolve() == before
    code, said = run(hosts, "--plan")
    assert code == 0, said
    assert (hosts.folder / "reports" / "latest" / "report.html").is_file()


@pytest.mark.parametrize(
    ("test", "target", "color", "expected"),
    [
        (
            "smoke/test_ready.py::test_ready[idle]",
            "green",
            "green",
            "smoke/test_ready.py::test_ready[web-2-green]",
        ),
        (
            "smoke/t.py::test_endpoint[idle-GET /x]",
            "green",
            "blue",
            "smoke/t.py::test_endpoint[web-2-blue-GET /x]",
        ),
        (
            "smoke/test_ready.py::test_ready[live]",
            "live",
            "green",
            "smoke/test_ready.py::test_ready[web-2-live]",
        ),
        ("smoke/t.py::test_x[idle-]", "", "", "smoke/t.py::test_x[web-2-idle-]"),
        ("deploy::up", "green", "green", "deploy::up[web-2-green]"),
        ("own.py::test_alone", "", "green", "own.py::test_alone[web-2]"),
    ],
)
def test_an_id_names_the_host_and_the_color(test: str, target: str, color: str, expected: str) -> None:
    """The tests of several hosts can be told apart, as `[web-2-green]`."""
    assert id_on(Check(1, test, target, 0, yes("ready", "it is"), 0.1, 1.0), "web-2", color) == expected


def test_a_check_is_of_the_host_that_its_target_names() -> None:
    """Also where the name of a host is the beginning of another one: a reason points to its own checks only."""
    hosts = ("web", "web-1", "web-1-b")
    named = {
        f"{host}{rest}": plugin_hosts.host_of(
            Check(1, "t", f"{host}{rest}", 0, yes("ready", "it is"), 0.1, 1.0), hosts
        )
        for host in hosts
        for rest in ("", "-green", "-live")
    }
    assert named == {f"{host}{rest}": host for host in hosts for rest in ("", "-green", "-live")}


FOLLOWER = """
from pathlib import Path

def pytest_cutover_end(result):
    Path("told").write_text(f"{result.status}\\n")

def pytest_cutover_report(folder, result):
    with open("told", "a") as out:
        out.write(f"{(folder / 'report.html').is_file()}\\n")

def pytest_cutover_stage(step):
    raise ValueError("x")
"""


def test_a_plugin_follows_a_release_on_several_hosts(hosts: Project) -> None:
    """It is told the end and the report, as of any session, and a hook that fails is named."""
    (hosts.folder / "follower.py").write_text(FOLLOWER)
    code, said = run(hosts, "--plan", "-p", "follower")
    assert code == 0, said
    assert (hosts.folder / "told").read_text() == "PLAN\nTrue\n"
    assert "warning: pytest_cutover_stage of the plugin follower failed: ValueError: x" in said


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (
            "def pytest_sessionfinish():\n    raise RuntimeError('x')\n",
            "a plugin broke the end of the session",
        ),
        ("def pytest_sessionfinish():\n    raise SystemExit(7)\n", "a plugin broke the end of the session"),
        ("def pytest_sessionfinish():\n    raise OSError(28, 'full')\n", "is incomplete: [Errno 28] full"),
        (
            "from cutover.report import page\ndef broken(*_):\n    raise ValueError('x')\npage.finish_page = broken\n",
            "warning: the report could not be written: ValueError: x",
        ),
    ],
)
def test_what_breaks_the_report_takes_no_end_away(hosts: Project, breaks: str, told: str) -> None:
    """What becomes of the hosts is decided by then: the last lines say it, and the exit code is that of the release."""
    (hosts.folder / "breaker.py").write_text(breaks)
    code, said = run(hosts, "--plan", "-p", "breaker")
    assert code == 0, said
    assert told in said
    assert "PLAN nothing was checked, nothing was changed." in said


class Interrupted:
    """A coordinator that gets a signal wherever it waits for hosts after the claim."""

    def __init__(self, *_given: object) -> None:
        self.interrupts = 0

    def preflight(self) -> None:
        """Nothing is wrong."""

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Claim, and give back."""
        os.kill(os.getpid(), signal.SIGINT)
        yield
        os.kill(os.getpid(), signal.SIGTERM)

    def run(self) -> HostsEnd:
        """Release."""
        os.kill(os.getpid(), signal.SIGHUP)
        return HostsEnd(Status.ROLLED_BACK, 2, "as before.")

    def interrupt(self) -> None:
        """End in order."""


@contextlib.contextmanager
def interrupted_connections(*_given: object) -> Iterator[dict[str, object]]:
    """Connections whose end takes a while."""
    yield {}
    os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_leaves_no_release_without_an_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """While hosts are claimed and given back, connections are closed and the report is written, it ends nothing."""
    monkeypatch.setattr(plugin_hosts, "connections", interrupted_connections)
    monkeypatch.setattr(plugin_hosts, "Coordinator", Interrupted)
    signals, console = SignalHandlers(), SimpleNamespace(step=lambda _step: None)
    asked = SimpleNamespace(plan=False)
    session: Any = SimpleNamespace(
        begun=False, console=console, evidence=Evidence(), folder=tmp_path, request=asked, signals=signals,
        settings=SimpleNamespace(project="shop"),
    )  # fmt: skip
    request: Any = SimpleNamespace(plan=HostsPlan("sha-2", (HostBatch(("web-1",), 1.0),), 60.0))
    hooks = CoordinatorHooks(session, request)
    signals.catch()
    try:
        hooks._release()
        assert session.begun
        assert hooks._result().exit_code == 2
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        hooks.end = None  # whatever broke, it is not told as a plan
        assert hooks._result().exit_code == 11
        hooks.schemas["web-1"] = "b771"
        hooks.end = HostsEnd(Status.ROLLED_BACK, 1, "blue serves sha-1, as before.")
        assert hooks._result().sentence.endswith("as before. The schema of web-1 stays at b771.")
    finally:
        signals.restore()

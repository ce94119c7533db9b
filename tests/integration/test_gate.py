"""Checks of the gate on a service in real containers."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import testinfra

from cutover.core.config_schema import Logs, Ready, Version
from cutover.core.target import ControlProbe
from cutover.core.verdict import Outcome
from cutover.gate.container_checks import ExpectedIdentity, health, identity, restarts, stays_up, wait_healthy
from cutover.gate.http_checks import ready, version
from cutover.gate.inside_checks import judge_listens, judge_read_only, judge_user, look_inside
from cutover.gate.log_checks import log_errors, read_baseline
from cutover.system import docker
from cutover.system.container import Container
from cutover.system.http import HttpClient
from cutover.system.process import run
from examples.releases import build

pytestmark = pytest.mark.engine
YES, NO = Outcome.YES, Outcome.NO
DEADLINE_S = 120.0
PATIENT = (
    "--health-start-period",
    "100s",
)  # a busy machine boots slowly; only the hopeless must fail at once
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Service:
    """A container of the example service."""

    id: str

    @property
    def seen(self) -> Container:
        """Its current `docker inspect` result."""
        found = docker.inspect(self.id)
        assert found is not None
        return found

    @property
    def port(self) -> int:
        """The published host port."""
        return int(self.seen.ports["8000/tcp"][0]["HostPort"])


Start = Callable[..., Service]


@pytest.fixture(scope="session")
def image() -> str:
    """Reference of a good release."""
    return build("sha-9a7e001", repo="cutover-gate/api")


@pytest.fixture
def start(image: str) -> Iterator[Start]:
    """Returns a function that starts containers with the options of the shipped Compose file; removed afterwards."""
    begun: list[str] = []

    def start(*options: str, hardened: bool = True) -> Service:
        name = f"cutover-gate-{os.getpid()}-{next(NUMBERS)}"
        hard = ("--init", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/data:uid=10001") if hardened else ()
        patient = () if "--no-healthcheck" in options else PATIENT
        words = ("docker", "run", "--detach", "--name", name, "--publish", "127.0.0.1::8000", *hard, *patient)
        begun.append(name)
        done = run((*words, *options, image), deadline_s=DEADLINE_S)
        assert done.ok, done
        return Service(done.out.strip())

    yield start
    for name in begun:
        run(("docker", "rm", "--force", "--volumes", name), deadline_s=DEADLINE_S)


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Poll *holds* until it is true; fails after the deadline."""
    until = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.2)


def test_a_good_release_is_let_through(start: Start) -> None:
    """Every check of a good release returns yes."""
    service = start()
    waited = wait_healthy(service.id)
    host = testinfra.get_host(f"docker://{service.id}")
    inside = look_inside(host, ["/"])
    control = ControlProbe(lambda: True, "the engine")
    with HttpClient(f"http://127.0.0.1:{service.port}", 60) as http:
        verdicts = [
            waited,
            stays_up(service.seen, 1.0),
            ready(http, control, Ready.model_validate({"json": {"ready": True}, "timeout": "1m"})),
            version(
                http,
                control,
                Version.model_validate({"json": {"service": "recall", "version": "{tag}"}}),
                "sha-9a7e001",
            ),
            identity(
                service.id,
                ExpectedIdentity(image=service.seen.image, container=service.id, port=service.port),
            ),
            health(service.id),
            restarts(service.id),
            log_errors(service.seen, None, Logs()),
            judge_listens(inside, 8000),
            judge_user(inside, "10001"),
            judge_read_only(inside, ["/"]),
        ]
    assert [str(each) for each in verdicts if each.outcome is not YES] == []


def test_the_port_of_another_container(start: Start) -> None:
    """The identity check fails if another container has the expected port."""
    mine, stranger = start(), start()
    verdict = identity(mine.id, ExpectedIdentity(container=mine.id, port=stranger.port))
    assert (verdict.outcome, stranger.seen.name in verdict.reason) == (NO, True), verdict


def test_no_healthcheck_is_told_at_once(start: Start) -> None:
    """A container without a HEALTHCHECK is not asked for its health: readiness takes its place."""
    verdict = wait_healthy(start("--no-healthcheck").id)
    assert (verdict.outcome, verdict.reason) == (Outcome.NOT_ASKED, "it has no HEALTHCHECK"), verdict


def test_a_crash_loop_fails_at_once(start: Start) -> None:
    """A crash loop fails long before the timeout, with the last log line."""
    service = start("--env", "DEFECT=crash-at-start", "--restart", "always")
    verdict = wait_healthy(service.id)
    assert (verdict.outcome, "last log line" in verdict.reason) == (NO, True), verdict
    assert "not healthy in" not in verdict.reason
    eventually(lambda: restarts(service.id).outcome is NO, "the restarts are seen")


def test_a_restart_in_between_is_seen(start: Start) -> None:
    """A manual restart is detected although id and restart count are unchanged."""
    service = start()
    before = service.seen
    assert run(("docker", "restart", "--time", "1", service.id), deadline_s=DEADLINE_S).ok
    verdict = stays_up(before, 0.0)
    assert (verdict.outcome, "started anew" in verdict.reason) == (NO, True), verdict
    assert health(service.id).outcome is YES


def test_the_inside_of_a_bad_container(start: Start) -> None:
    """User root, a wrong port and a writable file system are detected from inside the container."""
    service = start("--user", "0:0", "--env", "PORT=9000", hardened=False)
    assert wait_healthy(service.id).outcome is YES
    inside = look_inside(testinfra.get_host(f"docker://{service.id}"), ["/"])
    verdicts = [judge_listens(inside, 8000), judge_user(inside, ""), judge_read_only(inside, ["/"])]
    assert [each.outcome for each in verdicts] == [NO, NO, NO], verdicts


def test_errors_against_the_release_before(start: Start) -> None:
    """An error spike fails with and without a baseline; the word "error" in INFO lines does not count."""
    quiet, chatty, spike = start(), start("--env", "DEFECT=chatty"), start("--env", "DEFECT=error-spike")
    for service in (quiet, chatty, spike):
        assert wait_healthy(service.id).outcome is YES
    before = read_baseline(quiet.seen, Logs())
    assert before is not None
    assert before.lines > 0
    assert log_errors(chatty.seen, before, Logs()).outcome is YES
    eventually(lambda: log_errors(spike.seen, before, Logs()).outcome is NO, "the spike is seen")
    eventually(lambda: log_errors(spike.seen, None, Logs()).outcome is NO, "it is seen without a baseline")

"""Container checks of the watch on a real engine: memory, CPU, logs, restarts, dependencies."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from cutover.core.config_schema import Dependency, Logs, Slo
from cutover.core.evidence import Evidence
from cutover.core.text import seconds_of
from cutover.core.verdict import Outcome, Verdict
from cutover.system import docker as docker_engine
from cutover.system.container import Container
from cutover.watch.check import WatchCheck, at_once
from cutover.watch.containers import ContainerSource, container_checks
from cutover.watch.dependencies import (
    DependencyAnswer,
    DependencyAnswers,
    DependencySource,
    ask_dependencies,
    dependency_checks,
)
from cutover.watch.logs import LogSource, log_checks
from cutover.watch.resources import UsageSource, read_usage, resource_checks, usage_of_cgroup, usage_of_engine
from examples.images import image

pytestmark = pytest.mark.engine
YES, NO, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.NOT_ASKED
DEADLINE_S = 120.0
SLEEPS = ("sleep", "1000")
LIMITED = ("--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5")
CHILD_IS_KILLED = """
import os, subprocess, sys, time
subprocess.run([sys.executable, "-c", "x = bytearray(200_000_000)"])
time.sleep(1000)
"""
BUSY = "x = bytearray(20_000_000)\nwhile True: pass"
Start = Callable[..., str]


@pytest.fixture(scope="module")
def reference() -> str:
    """An image with Python."""
    return image("base")


@pytest.fixture
def start(reference: str) -> Iterator[Start]:
    """Returns a function that starts containers of that image or another; they are removed afterwards."""
    ids: list[str] = []

    def run(*words: str, options: tuple[str, ...] = (), of: str = reference) -> str:
        name = f"watch-test-{uuid.uuid4().hex[:8]}"
        ids.append(docker("run", "--detach", "--init", "--name", name, *options, of, *words).strip())
        return ids[-1]

    yield run
    if ids:
        docker("rm", "--force", "--volumes", *ids)


def docker(*words: str) -> str:
    """Output of a docker command, which must succeed."""
    done = subprocess.run(("docker", *words), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(checks: list[WatchCheck], name: str, outcome: Outcome, words: str = "") -> Verdict:
    """The verdict of the check *name* once it is *outcome* with *words*, or at the deadline."""
    end = time.monotonic() + DEADLINE_S
    while True:
        now = time.monotonic()
        for each in checks:
            each.poll(now)
        verdict = next(each.verdict() for each in checks if each.name == name)
        if (verdict.outcome is outcome and words in verdict.reason) or time.monotonic() > end:
            return verdict
        time.sleep(0.1)


def about(container_id: str) -> list[WatchCheck]:
    """All checks of one container."""
    containers = ContainerSource(partial(docker_engine.inspect, container_id), start=at_once)
    usage = UsageSource(containers, Evidence(), "green", start=at_once)
    return [*container_checks(containers), *resource_checks(usage, Slo.model_validate({}))]


def test_cgroup_and_engine_tell_the_same(start: Start) -> None:
    """Memory and CPU time read from cgroup files and from the engine agree."""
    busy = start("python3", "-c", BUSY, options=LIMITED)
    end = time.monotonic() + DEADLINE_S
    while (found := usage_of_cgroup(busy)) is None or found.anonymous < 20_000_000:
        assert time.monotonic() < end, found
        time.sleep(0.1)
    told = usage_of_engine(busy)
    later = usage_of_cgroup(busy)
    assert told is not None
    assert later is not None
    assert found.cpu_s <= told.cpu_s <= later.cpu_s
    assert told.anonymous == pytest.approx(later.anonymous, rel=0.2)
    assert told.memory == pytest.approx(later.memory, rel=0.2)
    cores = (later.cpu_s - found.cpu_s) / (later.at - found.at)
    assert 0.01 < cores < 1.0


def test_a_stopped_container_has_no_reading(start: Start) -> None:
    """A stopped or removed container has no reading, rather than zeros."""
    gone = start("true")
    docker("wait", gone)
    assert read_usage(gone) is None
    assert read_usage("f" * 64) is None


def test_a_killed_child_is_noticed(start: Start) -> None:
    """An OOM kill of a child process is detected, although the engine's OOMKilled flag is not set."""
    victim = start("python3", "-c", CHILD_IS_KILLED, options=LIMITED)
    docker("exec", victim, "true")
    containers = ContainerSource(partial(docker_engine.inspect, victim), start=at_once)
    usage = UsageSource(containers, Evidence(), "green", start=at_once, oom_before=0)
    asked = [*container_checks(containers), *resource_checks(usage, Slo.model_validate({}))]
    verdict = until(asked, "oom", NO)
    assert verdict.reason == "the kernel killed 1 process for the memory limit"
    assert containers.last is not None
    assert containers.last.running


def test_a_restart_is_a_no(start: Start) -> None:
    """A restarted container is a no, whatever restarted it and however well it runs afterwards."""
    steady = start(*SLEEPS)
    asked = about(steady)
    assert until(asked, "restarts", YES).outcome is YES
    docker("restart", "--time", "1", steady)
    assert (
        until(asked, "restarts", NO).reason
        == "started anew 1 time since the watch began: somebody restarted it, or the engine"
    )


@pytest.fixture
def both(start: Start) -> tuple[str, str]:
    """The live and the old container, both without log lines."""
    return start(*SLEEPS), start(*SLEEPS)


def said(container_id: str, line: str, times: int) -> None:
    """Write *line* to the container's log *times* times."""
    docker(
        "exec", container_id, "sh", "-c", f"for i in $(seq {times}); do echo '{line} '$i; done > /proc/1/fd/1"
    )


def test_the_log_is_read_on(both: tuple[str, str]) -> None:
    """New crashes on the live color are a no with the line; crashes on both colors do not count."""
    live, _old = both
    finds = [partial(docker_engine.inspect, each) for each in both]
    since = seconds_of(docker_engine.daemon_time())
    asked = [*log_checks(LogSource(finds[0], finds[1], Logs(), since, Evidence(), "green", start=at_once))]
    assert until(asked, "new errors", YES).reason.startswith("none in ")

    for each in reversed(both):
        said(each, "CRITICAL the database is down", 20)
    verdict = until(asked, "new errors", YES, "20 more are logged by both colors: not this release")
    assert verdict.outcome is YES, verdict

    said(live, "CRITICAL no such column", 6)
    verdict = until(asked, "new errors", NO)
    assert "crashes of a new kind" in verdict.reason
    assert "CRITICAL no such column" in verdict.reason


def test_dependencies_are_asked_from_inside(start: Start) -> None:
    """Both colors reach Redis; a failure for both is only reported, a failure for one color is a no."""
    cache = start(of=image("redis"))
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", cache).strip()
    live, old = (start(*SLEEPS, options=("--env", f"REDIS_URL=redis://{address}:6379/0")) for _ in range(2))
    elsewhere = start(*SLEEPS, options=("--env", "REDIS_URL=redis://127.0.0.1:1/0"))
    wanted = [Dependency(name="cache", kind="redis", url_key="REDIS_URL")]

    def of(container_id: str) -> Callable[[], DependencyAnswers | None]:
        return lambda: ask_dependencies(docker_engine.inspect(container_id), wanted)

    def about_cache(live_id: str) -> list[WatchCheck]:
        source = DependencySource(of(live_id), of(old), 5.0, Evidence(), start=at_once)
        return dependency_checks(["cache"], source)

    assert until(about_cache(live), "dependency cache", YES).outcome is YES
    alone = until(about_cache(elsewhere), "dependency cache", NO)
    assert "got Connection refused" in alone.reason
    asked = about_cache(live)
    docker("stop", "--time", "1", cache)
    verdict = until(asked, "dependency cache", NOT_ASKED, "fails for both colors")
    assert "fails for both colors" in verdict.reason


def test_a_container_without_python_is_not_asked(start: Start) -> None:
    """Without Python in the container the check is not asked and does not fail."""
    bare = docker_engine.inspect(start(*SLEEPS, of="debian:bookworm-slim"))
    assert isinstance(bare, Container)
    found = ask_dependencies(bare, [Dependency(name="db", kind="tcp", url="tcp://127.0.0.1:1")])
    assert found == {"db": DependencyAnswer(why_not="no python3 in the container to ask with")}

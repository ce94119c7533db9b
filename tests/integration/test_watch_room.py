"""Resources that run out: a container's memory and a small file system."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cutover.core.config_schema import Slo
from cutover.core.evidence import Evidence
from cutover.core.verdict import Outcome, Verdict
from cutover.system import docker
from cutover.system.container import Engine
from cutover.watch.check import at_once
from cutover.watch.containers import ContainerSource
from cutover.watch.resources import LEAK_NEEDS_S, Usage, UsageSource, read_usage, resource_checks
from examples.images import image

pytestmark = pytest.mark.engine
DEADLINE_S = 120.0
MINUTES_A_SECOND = 60.0
HOLDS = "import time\nx = bytearray(b'x' * 40_000_000)\ntime.sleep(1000)"
LEAKS = "import time\nkept = []\nwhile True: kept.append(bytearray(b'x' * 400_000)); time.sleep(0.1)"
FULL = """
set -eu
mount -t tmpfs -o size=1m none "$1"
"$2" -c "$3" "$1"
head -c 980000 /dev/zero > "$1/filled"
"$2" -c "$3" "$1"
"""
ASK = """
import sys
from pathlib import Path
from cutover.gate.environment_checks import disk_room, judge_disk
verdict = judge_disk(disk_room(Path(sys.argv[1])), 0.1)
print(verdict.outcome, verdict.reason)
"""


@pytest.fixture
def container(request: pytest.FixtureRequest) -> Iterator[str]:
    """A container that runs the program given as the parameter."""
    name = f"watch-room-{uuid.uuid4().hex[:8]}"
    words = ("docker", "run", "--detach", "--init", "--name", name, "--memory", "256m", image("base"))
    subprocess.run(
        (*words, "python3", "-c", request.param), check=True, capture_output=True, timeout=DEADLINE_S
    )
    yield name
    subprocess.run(("docker", "rm", "--force", "--volumes", name), check=False, capture_output=True)


def a_second_is_a_minute(container_id: str, engine: Engine) -> Usage | None:
    """A real reading with its time multiplied by 60."""
    found = read_usage(container_id, engine)
    return replace(found, at=found.at * MINUTES_A_SECOND) if found else None


def judged(container: str) -> Verdict:
    """Verdict of the leak check once there are enough readings."""
    containers = ContainerSource(partial(docker.inspect, container), start=at_once)
    usage = UsageSource(containers, Evidence(), "green", read=a_second_is_a_minute, start=at_once)
    leak = next(each for each in resource_checks(usage, Slo()) if each.name == "leak")
    end = time.monotonic() + DEADLINE_S
    while usage.anonymous.seconds < LEAK_NEEDS_S and time.monotonic() < end:
        assert leak.verdict().outcome is Outcome.NOT_ASKED
        now = time.monotonic()
        containers.poll(now)
        usage.poll(now)
        time.sleep(0.1)
    return leak.verdict()


@pytest.mark.parametrize(
    ("container", "outcome"),
    [(LEAKS, Outcome.NO), (HOLDS, Outcome.YES)],
    indirect=["container"],
    ids=["leaks", "holds"],
)
def test_memory_that_only_grows(container: str, outcome: Outcome) -> None:
    """A container that grows by 4 MB per second is a no, one with constant memory a yes; seconds count as minutes."""
    verdict = judged(container)
    assert verdict.outcome is outcome, verdict


def test_a_disk_with_room_and_one_without(tmp_path: Path) -> None:
    """An empty file system is a yes, a nearly full one a no with its numbers."""
    own = ("unshare", "--map-root-user", "--mount")  # the mount is seen by nobody else, and gone afterwards
    argv = (*own, "sh", "-c", FULL, "sh", str(tmp_path), sys.executable, ASK)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    before, after = done.stdout.splitlines() or ["", done.stderr]
    assert before == f"yes {tmp_path}: 100% (0.0 of 0 GB) free"
    assert after.startswith(f"no {tmp_path}: expected 10% free, got ")

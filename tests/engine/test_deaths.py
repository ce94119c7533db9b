"""Deaths on a real engine: whatever dies, one release serves, it is the one that `status` names, nothing is open."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from examples.releases import build
from examples.stand import Stand, latest, tags

pytestmark = pytest.mark.engine
OLD, NEXT = "sha-dea0001", "sha-dea0002"
PATIENCE_S = 120.0
STAYS_S = 20.0  # longer than a stop that the engine may still have pending
WAITS = """\
import time
from pathlib import Path

def test_waits(target):
    Path({waiting!r}).touch()
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand on which OLD is live on blue and proven."""
    made = Stand(tmp_path_factory.mktemp("stand"), f"dea{uuid.uuid4().hex[:6]}")
    try:
        made.make()
        build(NEXT)
        done = made.release(OLD, "live")
        assert done.code == 0, done.out
        yield made
    finally:
        made.remove()


def until(true: Callable[[], Any], what: str, session: subprocess.Popen[str] | None = None) -> None:
    """Wait until it is true; engine, guard and sessions are other processes."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        ended = session is not None and session.poll() is not None
        assert not ended, f"the session ended before {what}: {session.communicate()[0] if session else ''}"
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.02)


@contextmanager
def releasing(stand: Stand, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A session that deploys NEXT; whatever becomes of the test, it ends with it."""
    with stand.start("smoke", *arguments, f"--deploy={NEXT}") as session:
        try:
            yield session
        finally:
            die(session)


def die(session: subprocess.Popen[str]) -> None:
    """Kill the session and its group, at once."""
    with suppress(ProcessLookupError):
        os.killpg(session.pid, signal.SIGKILL)


def only_serves(stand: Stand, tag: str) -> None:
    """Nothing is open, each request through the proxy is answered by *tag*, and `status` names it."""
    until(lambda: not (stand.state / "open").exists(), "the release is closed")
    until(lambda: stand.ask().get("version") == tag, f"{tag} serves")
    assert [stand.ask().get("version") for _ in range(20)] == [tag] * 20
    status: Any = stand.status()
    assert status["colours"][status["live"]]["tag"] == tag
    assert status["colours"][status["live"]]["state"] == "healthy"
    assert (status["open"], status["held_by"], status["needs_person"], status["proxy"]) == (
        None,
        None,
        None,
        None,
    )
    assert tags(stand.running(status["live"])) == [tag]


def container(stand: Stand, colour: str) -> str:
    """The id of the container that runs on *colour*."""
    project = f"label=com.docker.compose.project={stand.project(colour)}"
    return stand.docker("ps", "--no-trunc", "--quiet", "--filter", project).strip()


def containers(stand: Stand, colour: str) -> list[str]:
    """All containers of *colour*, also those that do not run."""
    project = f"label=com.docker.compose.project={stand.project(colour)}"
    return stand.docker("ps", "--all", "--no-trunc", "--quiet", "--filter", project).split()


def is_switched(stand: Stand) -> bool:
    """Whether the proxy's marker says green."""
    return (stand.marker / "green").exists()


def is_watching(stand: Stand) -> bool:
    """Whether the session has drained the old colour, after which it watches."""
    evidence = latest(stand.folder) / "evidence.jsonl"
    return is_switched(stand) and evidence.exists() and '"drain blue"' in evidence.read_text()


def test_a_session_killed_while_the_old_container_is_gone(stand: Stand) -> None:
    """In place, in the middle of the recreate: the guard waits for the orphaned Compose, then puts the old one back."""
    old = container(stand, "blue")
    with releasing(stand, "--target=live") as session:
        until(lambda: old not in containers(stand, "blue"), "the old container is gone", session)
        die(session)
        only_serves(stand, OLD)
    again = container(stand, "blue")
    for _ in range(2):
        subprocess.run(("sh", "-eu", str(stand.state / "undo.sh")), check=True, stdin=subprocess.DEVNULL)
        assert container(stand, "blue") == again, "what is back is taken away once more"


def test_a_compose_killed_in_the_middle_of_its_recreate(stand: Stand) -> None:
    """The engine may still have a stop pending: the session takes back, and what it put back stays."""
    old = container(stand, "blue")
    with releasing(stand, "--target=live") as session:
        until(lambda: containers(stand, "blue") not in ([old], []), "the new container is made", session)
        assert kill_compose(stand) > 0
        said = session.communicate()[0]
    assert session.returncode == 1, said
    assert "TAKEN BACK" in said
    only_serves(stand, OLD)
    stays = container(stand, "blue")
    deadline = time.monotonic() + STAYS_S
    while time.monotonic() < deadline:
        assert container(stand, "blue") == stays
        time.sleep(0.5)
    only_serves(stand, OLD)


def kill_compose(stand: Stand) -> int:
    """Kill every `docker compose up` of blue's project; how many there were."""
    found = 0
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = each.read_bytes().decode(errors="replace").split("\0")
            if (
                stand.project("blue") in words
                and "up" in words
                and words[0].rsplit("/", 1)[-1].startswith("docker")
            ):
                os.kill(int(each.parent.name), signal.SIGKILL)
                found += 1
    return found


def test_a_session_killed_in_its_gate(stand: Stand, tmp_path: Path) -> None:
    """While it lives a second one exits 12 and changes nothing; when it is killed what it deployed is removed."""
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "test_team.py").write_text(WAITS.format(waiting=str(tmp_path / "waiting")))
    with releasing(stand, str(tmp_path / "team"), "--target=idle") as session:
        until((tmp_path / "waiting").exists, "the gate", session)
        assert tags(stand.running("green")) == [NEXT]
        second = stand.pytest("smoke", "--target=idle", f"--deploy={OLD}", CUTOVER_WHO="ben")
        assert second.code == 12, second.out
        assert f"is releasing {NEXT} to idle" in second.out
        assert tags(stand.running("green")) == [NEXT]
        die(session)
        only_serves(stand, OLD)
    assert stand.running("green") == []


def test_a_session_killed_right_after_the_switch(stand: Stand) -> None:
    """The traffic goes back to the old colour, and what was deployed is removed."""
    with releasing(stand, "checks", "--target=idle", "--switch", "--watch=60s") as session:
        until(lambda: is_switched(stand), "the switch", session)
        die(session)
        only_serves(stand, OLD)
    assert not is_switched(stand)
    assert stand.running("green") == []


def test_a_session_killed_in_its_watch(stand: Stand) -> None:
    """As right after the switch; also when its guard is dead, and a person recovers."""
    with releasing(stand, "checks", "--target=idle", "--switch", "--watch=300s") as session:
        until(lambda: is_watching(stand), "the watch", session)
        os.kill(int((stand.state / "guard.pid").read_text().split()[0]), signal.SIGKILL)
        die(session)
        session.wait()
    assert (stand.state / "open").exists()
    assert is_switched(stand)
    done = stand.cutover("recover")
    assert done.code == 0, done.out
    only_serves(stand, OLD)


def test_a_rollback_ends_a_watch(stand: Stand) -> None:
    """`cutover rollback` during a watch takes all of it back; the session ends with 1 and says by whom."""
    with releasing(stand, "checks", "--target=idle", "--switch", "--watch=8s") as session:
        until(lambda: is_watching(stand), "the watch", session)
        done = stand.cutover("rollback")
        assert done.code == 0, done.out
        assert stand.ask().get("version") == OLD
        said = session.communicate()[0]
    assert session.returncode == 1, said
    assert "TAKEN BACK" in said
    only_serves(stand, OLD)


def test_a_proxy_that_restarts_in_the_watch(stand: Stand) -> None:
    """Kept or taken back, as the watch judges it; what the exit code says is what serves."""
    with releasing(stand, "checks", "--target=idle", "--switch", "--watch=10s") as session:
        until(lambda: is_watching(stand), "the watch", session)
        stand.docker("restart", "--time", "1", f"{stand.name}-proxy")
        said = session.communicate()[0]
    assert session.returncode in {0, 1, 10}, said
    only_serves(stand, NEXT if session.returncode == 0 else OLD)

"""Endings beside faults that are not the release's: exit code, last lines and `cutover status` say what users have."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from examples.releases import build
from examples.stand import Stand, pause, tags
from tests.helpers.live_stand import live_stand

pytestmark = pytest.mark.engine
V1, V2, BAD = "sha-e4d0001", "sha-e4d0002", "sha-e4d0003"
ERRORS = r"for i in 1 2 3 4 5 6; do printf 'Traceback (most recent call last):\n  x\nLookupError: nobody\n' >/proc/1/fd/2; sleep 1; done"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand where V1 is live on blue and verified."""
    with live_stand(tmp_path_factory.mktemp("stand"), "end", V1) as made:
        build(V2)
        build(BAD, "ready-503")
        yield made


def as_before(stand: Stand, tag: str) -> None:
    """Assert that users get *tag*, verified, and that nothing is open and nobody is needed."""
    status = json.loads(stand.cutover("status", "--json").out.splitlines()[-1])
    assert stand.ask()["version"] == tag
    shown = status["colors"][status["live"]]
    assert (shown["tag"], shown["verified"], status["open"]) == (tag, True, None)
    assert status["needs_operator"] is None
    assert stand.cutover("status").code == 0


def container_of(stand: Stand, color: str) -> str:
    """The id of the container of the service on *color*."""
    labels = (f"project={stand.project(color)}", "service=api")
    filters = (word for each in labels for word in ("--filter", f"label=com.docker.compose.{each}"))
    return stand.docker("ps", "--quiet", *filters).split()[0]


def test_an_old_release_that_is_unwell_and_an_edited_file(stand: Stand) -> None:
    """It logs errors, and today's compose file no longer makes it: it is put back, stays verified, and that is said."""
    stand.docker("exec", container_of(stand, "blue"), "sh", "-c", ERRORS)
    file = stand.config.parent / "docker-compose.yml"
    text = file.read_text()
    file.write_text(text.replace("      REDIS_URL:", "      EDITED: x\n      REDIS_URL:", 1))
    try:
        for target in ("idle", "live"):
            done = stand.pytest("smoke", f"--target={target}", f"--deploy={BAD}")
            assert done.code == 1, done.out
            assert "ROLLED BACK" in done.out
            assert f"runs {V1} on blue, as before" in done.out
            as_before(stand, V1)
            if target == "idle":
                assert "as it did before: logs" in " ".join(done.out.split()), done.out
    finally:
        file.write_text(text)
    as_before(stand, V1)


def test_an_old_color_that_is_unhealthy_for_a_moment(stand: Stand) -> None:
    """It is paused while a bad release is reverted: it is waited for, and users have what they had."""
    blue = container_of(stand, "blue")
    pause(blue)
    resume = threading.Timer(6.0, stand.docker, ("unpause", blue))
    resume.start()
    try:
        done = stand.pytest("smoke", "--target=idle", f"--deploy={BAD}")
    finally:
        resume.join()
    assert done.code == 1, done.out
    as_before(stand, V1)


def test_a_proxy_that_is_away_for_a_while(stand: Stand) -> None:
    """Its container dies at the switch and is back after 20 s: the revert waits for it, and users have what they had."""
    lines = stand.state / "journal.jsonl"
    told = lines.read_text().count('"change": "switch"')

    def away() -> None:
        deadline = time.monotonic() + 300
        while lines.read_text().count('"change": "switch"') == told and time.monotonic() < deadline:
            time.sleep(0.02)
        stand.docker("kill", f"{stand.name}-proxy")
        time.sleep(20)
        stand.docker("start", f"{stand.name}-proxy")

    killing = threading.Thread(target=away)
    killing.start()
    done = stand.pytest("smoke", "checks", "--target=idle", f"--deploy={V2}", "--switch", "--watch=2s")
    killing.join()
    assert done.code in {1, 10}, done.out
    assert f"runs {V1} on blue, as before" in done.out
    as_before(stand, V1)


def test_a_release_that_is_only_staged_and_a_way_back_that_is_gone(stand: Stand) -> None:
    """A deploy without a switch names what is staged; an old color that is stopped in the watch is told."""
    done = stand.pytest("smoke", "--target=idle", f"--deploy={V2}")
    assert done.code == 0, done.out
    assert f"{V2} is staged on green and gets no traffic; " in done.out
    assert f"runs {V1} on blue, which is live" in done.out
    blue = container_of(stand, "blue")
    process = stand.start("smoke", "checks", "--target=idle", f"--deploy={V2}", "--switch", "--watch=5s")
    deadline = time.monotonic() + 300
    while not (stand.marker / "green").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(2)
    stand.docker("stop", blue)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert tags(stand.running("green")) == [V2]
    assert "note  blue is not warm any more (exited)" in out
    assert "blue is not warm (exited): `cutover rollback` starts it and flips" in stand.cutover("status").out
    done = stand.cutover("rollback")
    assert done.code == 0, done.out
    as_before(stand, V1)


def test_a_file_that_is_broken_when_a_session_has_died(stand: Stand) -> None:
    """What serves is asked of proxy and engine, not of today's files: `recover` ends with 0, `status` names who is live."""
    lines = stand.state / "journal.jsonl"
    begun, file = len(lines.read_text().splitlines()), stand.env_file("blue")
    text = file.read_text()
    process = stand.start("smoke", "--target=idle", f"--deploy={BAD}")  # it runs nowhere yet
    deadline = time.monotonic() + 300
    while not any('"do"' in each for each in lines.read_text().splitlines()[begun:]):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    file.write_text(text.replace("IMAGE_TAG=", "# IMAGE_TAG="))
    try:
        guard = int((stand.state / "guard.pid").read_text().split()[0])
        os.killpg(process.pid, signal.SIGSTOP)
        os.kill(guard, signal.SIGKILL)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        done = stand.cutover("recover")
        assert (done.code, f"blue serves {V1}, as before" in done.out) == (0, True), done.out
        shown = stand.cutover("status", "--json")
        status = json.loads(next(line for line in shown.out.splitlines() if line.startswith("{")))
        assert (shown.code, status["live"], status["open"], status["needs_operator"]) == (
            4,
            "blue",
            None,
            None,
        )
        assert "IMAGE_TAG" in status["problem"]
    finally:
        file.write_text(text)
    as_before(stand, V1)

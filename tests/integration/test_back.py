"""Rollbacks on a real engine: target, repeated rollback, rehearsal, and output of `status`."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator

import pytest

from examples.releases import build
from examples.stand import Stand, tags

pytestmark = pytest.mark.engine
V1, V2, V3, V4 = "sha-bac0001", "sha-bac0002", "sha-bac0003", "sha-bac0004"
BAD = "sha-bac0005"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand where V1 was live on blue and a cutover has made V2 live on green."""
    made = Stand(tmp_path_factory.mktemp("stand"), f"bac{uuid.uuid4().hex[:6]}")
    try:
        made.make()
        done = made.release(V1, "live")
        assert done.code == 0, done.out
        assert made.cutover("rollback").code == 4, "there is nothing before the first release"
        cut_over(made, V2)
        yield made
    finally:
        made.remove()


def cut_over(stand: Stand, tag: str) -> None:
    """Release *tag* to the idle color and switch to it."""
    build(tag)
    done = stand.pytest("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", "--watch=2s")
    assert done.code == 0, done.out


def serves(stand: Stand, tag: str, how: str | None) -> None:
    """Assert that users get *tag*, no release is open, and `status` reports both and the kind of rollback, *how*."""
    status = json.loads(stand.cutover("status", "--json").out.splitlines()[-1])
    assert stand.ask()["version"] == tag
    assert status["colors"][status["live"]]["tag"] == tag
    assert status["open"] is None
    assert status["rollback"]["how"] == how, status["rollback"]


def test_back_again_and_there(stand: Stand) -> None:
    """Switch back, repeat without effect, rehearse, and roll back to a stopped color; never to a newer release."""
    serves(stand, V2, "flip")
    rehearsed = stand.cutover("rehearse")
    assert rehearsed.code == 0, rehearsed.out
    assert "roll back takes about" in stand.cutover("status").out
    done = stand.cutover("rollback")
    assert done.code == 0, done.out
    assert f"runs {V1} on blue again (flipped in " in done.out
    serves(stand, V1, None)
    again = stand.cutover("rollback")
    assert again.code == 0, again.out
    assert f"already rolled back: {V1} runs on blue again, {V2} was live after it" in again.out
    serves(stand, V1, None)

    cut_over(stand, V3)  # over V2 on green
    retired = stand.cutover("retire")
    assert retired.code == 0, retired.out
    assert "blue is stopped (no request in flight" in retired.out
    assert stand.running("blue") == []
    serves(stand, V3, "start")
    done = stand.cutover("rollback")
    assert done.code == 0, done.out
    serves(stand, V1, None)
    assert tags(stand.running("blue")) == [V1]


def test_what_was_only_staged_is_never_gone_to(stand: Stand) -> None:
    """A release that was verified on the idle color and never live is no way back: the one before it is deployed."""
    cut_over(stand, V2)
    serves(stand, V2, "flip")
    assert stand.release(V4, "idle").code == 0
    serves(stand, V2, "deploy")
    done = stand.cutover("rollback")
    assert done.code == 0, done.out
    serves(stand, V1, None)
    assert tags(stand.running("blue")) == [V4]
    again = stand.cutover("rollback")
    assert again.code == 0, again.out
    assert "already rolled back" in again.out
    serves(stand, V1, None)


def test_a_rehearsal_deploys_first(stand: Stand) -> None:
    """`rehearse --deploy` leaves the release verified on the idle color, and users with what they had."""
    build(V3)
    done = stand.cutover("rehearse", "--deploy", V3)
    assert done.code == 0, done.out
    assert "and back to green: the rollback took" in done.out
    assert tags(stand.running("blue")) == [V3]
    serves(stand, V1, None)
    records = json.loads((stand.state / "releases" / "blue" / "records.json").read_text())
    assert (records[-1]["tag"], records[-1]["verified"]) == (V3, True)


def test_a_failed_gate_of_what_a_person_switched_to_sends_the_traffic_back(stand: Stand) -> None:
    """A bad release started and switched to by hand: users get what they had, and its color its last verified one."""
    live = str(stand.ask()["color"])
    idle = "blue" if live == "green" else "green"
    build(BAD, "wrong-version")
    env = stand.env_file(idle)
    env.write_text(re.sub("^IMAGE_TAG=.*$", f"IMAGE_TAG={BAD}", env.read_text(), flags=re.MULTILINE))
    file = stand.folder / "deploy" / "docker-compose.yml"
    compose = ("compose", "-p", stand.project(idle), "-f", str(file), "--env-file", str(env))
    stand.docker(*compose, "up", "--detach", "--no-deps", "--wait", "api")
    (stand.marker / live).rename(stand.marker / idle)
    assert stand.status()["live"] == idle
    done = stand.pytest("smoke", "--target=live")
    assert done.code == 1, done.out
    assert "ROLLED BACK" in done.out
    serves(stand, V1, None)
    assert tags(stand.running(idle)) == [V3]
    assert f"IMAGE_TAG={V3}\n" in env.read_text()


def test_status_shows_what_is_open_although_a_file_is_broken(stand: Stand) -> None:
    """`status` reports an invalid env file with exit code 4 and still shows the rest, also who is live."""
    env = stand.env_file("blue")
    text = env.read_text()
    try:
        env.write_text(text.replace("API_HTTP_PORT=", "API_HTTP_PORT=no"))
        done = stand.cutover("status")
    finally:
        env.write_text(text)
    assert done.code == 4, done.out
    assert "open   nothing" in done.out
    assert f"live   {stand.ask()['color']}" in done.out


def test_a_rollback_flips_back_although_today_s_files_are_broken(stand: Stand) -> None:
    """A compose file that does not parse: users get what they had, and the gate is said not to have been asked."""
    before = str(stand.ask()["version"])
    cut_over(stand, V2)
    file = stand.folder / "deploy" / "docker-compose.yml"
    text = file.read_text()
    try:
        file.write_text(text + "  broken: [\n")
        done = stand.cutover("rollback")
    finally:
        file.write_text(text)
    assert done.code == 0, done.out
    assert f"runs {before} on " in done.out
    assert "(flipped in " in done.out
    assert "smoke[live] not asked" in done.out
    serves(stand, before, None)

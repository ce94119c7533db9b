"""Releases on a real engine: a good one is kept, a bad one is reverted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutover.core.change import UNDO_END
from examples.releases import build
from examples.stand import Stand, latest, tags

pytestmark = pytest.mark.engine
CANARY = "canary-7f3e9a1c"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand on which sha-1111111 is live and verified."""
    made = Stand(tmp_path_factory.mktemp("stand"), f"rel{uuid.uuid4().hex[:6]}", min_uptime="5s")
    try:
        made.make()
        done = made.release("sha-1111111", "live")
        assert done.code == 0, done.out
        yield made
    finally:
        made.remove()


def serves(stand: Stand, tag: str) -> None:
    """Assert that the proxy serves *tag*, no release is open, and `status` agrees."""
    assert stand.ask()["version"] == tag
    status = stand.status()
    live = status["colors"][status["live"]]  # type: ignore[index]
    assert live["tag"] == tag
    assert status["open"] is None


def test_the_first_release_is_kept_and_verified(stand: Stand) -> None:
    """Nothing ran before; now the proxy answers with the release, and it is recorded as verified."""
    serves(stand, "sha-1111111")
    record = json.loads((stand.state / "releases" / "blue" / "records.json").read_text())[-1]
    assert record["verified"]
    assert record["tag"] == "sha-1111111"


def test_the_same_release_again_is_a_no_op(stand: Stand) -> None:
    """What already runs and is verified is gated again, and its container stays the same."""
    before = stand.status()["colors"]["blue"]["container"]  # type: ignore[index]
    done = stand.release("sha-1111111", "live")
    assert done.code == 0, done.out
    assert "nothing to do" in done.out
    assert stand.status()["colors"]["blue"]["container"] == before  # type: ignore[index]


BAD = {
    "wrong-version": "sha-bad0001",
    "ready-503": "sha-bad0002",
    "never-ready": "sha-bad0003",
    "crash-at-start": "sha-bad0004",
    "crash-loop-late": "sha-bad0005",
    "error-spike": "sha-bad0006",
}


@pytest.mark.parametrize("defect", BAD)
def test_a_bad_release_in_place_is_reverted(stand: Stand, defect: str) -> None:
    """After an in-place release with a defect the old release serves again."""
    done = stand.release(BAD[defect], "live", defect=defect)
    assert done.code == 1, done.out
    assert "ROLLED BACK" in done.out
    serves(stand, "sha-1111111")
    assert stand.status()["colors"]["blue"]["verified"]  # type: ignore[index]  # by the gate after the revert
    report = latest(stand.folder)
    assert {"report.html", "junit.xml", "evidence.jsonl", "undo.sh", "journal.jsonl"} <= {
        each.name for each in report.iterdir()
    }


def test_a_bad_first_release_of_a_color_is_removed(stand: Stand) -> None:
    """A bad first release of a color is removed."""
    assert stand.running("green") == []
    done = stand.release("sha-bad0001", "green", defect="wrong-version")
    assert done.code == 1, done.out
    assert stand.running("green") == []
    serves(stand, "sha-1111111")


def test_a_plan_changes_nothing(stand: Stand) -> None:
    """--plan prints the actions and their undo, changes nothing and exits with 0."""
    build("sha-2222222")
    (stand.state / "open").write_text("20260101T000000-1\n")  # left by a session that died
    (stand.state / "undo.sh").write_text(f"exit 1\n{UNDO_END}\n")
    before = kept(stand)
    try:
        done = stand.pytest("smoke", "--target=idle", "--deploy=sha-2222222", "--plan")
        assert done.code == 0, done.out
        assert "PLAN" in done.out
        assert "would deploy recall/api:sha-2222222 on green" in done.out
        assert "would first revert it" in " ".join(done.out.split())  # lines are folded
        assert stand.running("green") == []
        assert kept(stand) == before
    finally:
        (stand.state / "open").unlink()


def kept(stand: Stand) -> dict[str, bytes]:
    """Content of all files in the state directory."""
    return {str(each): each.read_bytes() for each in stand.state.rglob("*") if each.is_file()}


def test_a_plan_shows_what_differs_from_what_runs(stand: Stand) -> None:
    """The plan compares with the running release, not with the env file, and does not pull an image."""
    env = stand.env_file("blue")
    text = env.read_text()
    env.write_text(text.replace("VLLM_ENDPOINT=", "VLLM_ENDPOINT=http://127.0.0.1:9"))
    before = kept(stand)
    try:
        done = stand.pytest("smoke", "--target=live", "--deploy=sha-0f0f0f0", "--plan")
    finally:
        env.write_text(text)
    assert done.code == 0, done.out
    assert "recall/api:sha-0f0f0f0 is not here: would be pulled" in done.out
    assert "image: recall/api:sha-1111111 → recall/api:sha-0f0f0f0" in done.out
    assert "environment VLLM_ENDPOINT: *** → ***" in done.out
    assert kept(stand) == before


REFUSED = {
    "an image that is nowhere": ("--target=idle", "--deploy=sha-0f0f0f0", "sha-0f0f0f0"),
    "the live color by its name": (
        "--target=blue",
        "--deploy=sha-1111111",
        "blue is live: say --target=live",
    ),
    "a switch to the live color": ("--target=live", "--switch", "it is live already"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_changes_nothing(stand: Stand, name: str) -> None:
    """An impossible request is rejected in one line with exit code 4, and the containers are unchanged."""
    before = stand.status()["colors"]
    target, request, said = REFUSED[name]
    done = stand.pytest("smoke", "checks", target, request)
    assert done.code == 4, done.out
    assert said in done.out
    assert stand.status()["colors"] == before


def test_a_stranger_on_the_port_is_refused(stand: Stand) -> None:
    """A port used by another process is rejected; a recreate would first remove the old container."""
    import socket

    with socket.create_server(("127.0.0.1", stand.ports["green"])):
        done = stand.pytest("smoke", "--target=green", "--deploy=sha-1111111")
    assert done.code == 4, done.out
    assert f"port {stand.ports['green']} of green is taken by another process" in done.out


def test_a_stranger_is_seen_although_our_color_runs_elsewhere(stand: Stand) -> None:
    """A changed port in the env file is checked too, before the container on the old port is removed."""
    import socket

    env = stand.env_file("blue")
    text = env.read_text()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        env.write_text(text.replace(str(stand.ports["blue"]), str(port)))
        try:
            done = stand.pytest("smoke", "--target=live", "--deploy=sha-2222222")
        finally:
            env.write_text(text)
    assert done.code == 4, done.out
    assert f"port {port} of blue is taken by another process" in done.out
    serves(stand, "sha-1111111")


def test_a_url_is_asked_what_can_be_asked(stand: Stand) -> None:
    """A plain URL has no container: checks that need one are listed as not asked and do not count."""
    done = stand.pytest("smoke", f"--target={stand.url}")
    assert done.code == 0, done.out
    assert "is a plain URL" in done.out


def test_a_diagnosis_at_night_rolls_nothing_back(stand: Stand) -> None:
    """A gate that fails on a verified release only says so."""
    broken = stand.folder / "broken.toml"
    text = stand.config.read_text().replace('path = "/metrics"', 'path = "/nowhere"')
    broken.write_text(text)
    (stand.folder / "deploy" / "broken.toml").write_text(text)
    before = stand.status()["colors"]
    done = stand.pytest(
        "smoke", "--target=live", "--cutover-config", str(stand.folder / "deploy" / "broken.toml")
    )
    assert done.code == 1, done.out
    assert "GATE FAILED" in done.out
    assert stand.status()["colors"] == before


def test_a_release_that_is_not_proven_is_put_back_by_its_gate(stand: Stand) -> None:
    """Deployed by hand and failing its gate: the color's last verified release runs again."""
    done = stand.release("sha-1111111", "green")
    assert done.code == 0, done.out
    build("sha-bad0001", "wrong-version")
    compose = (
        "compose",
        "-p",
        stand.project("green"),
        "-f",
        str(stand.folder / "deploy" / "docker-compose.yml"),
    )
    env = stand.env_file("green")
    env.write_text(env.read_text().replace("sha-1111111", "sha-bad0001"))
    stand.docker(*compose, "--env-file", str(env), "up", "--detach", "--no-deps", "--wait", "api")
    assert tags(stand.running("green")) == ["sha-bad0001"]
    done = stand.pytest("smoke", "--target=green")
    assert done.code == 1, done.out
    assert "ROLLED BACK" in done.out
    assert tags(stand.running("green")) == ["sha-1111111"]
    assert (
        "IMAGE_TAG=sha-1111111\n" in env.read_text()
    )  # else the next `docker compose up` deploys the bad one


def test_what_a_person_deployed_can_be_replaced_and_put_back(stand: Stand) -> None:
    """A container started by hand with Compose is adopted, so that a release over it can be reverted."""
    done = stand.release("sha-bad0001", "green", defect="wrong-version")
    assert done.code == 1, done.out
    assert tags(stand.running("green")) == ["sha-1111111"]


def test_no_rollback_leaves_it_as_it_is(stand: Stand) -> None:
    """With --keep-on-failure a failed release stays, and neither guard nor `recover` reverts it."""
    done = stand.release("sha-bad0001", "green", "--keep-on-failure", defect="wrong-version")
    assert done.code == 1, done.out
    assert "KEPT UNVERIFIED" in done.out
    assert tags(stand.running("green")) == ["sha-bad0001"]
    assert "IMAGE_TAG=sha-bad0001\n" in stand.env_file("green").read_text()  # it names what runs
    assert stand.status()["open"] is None
    assert stand.cutover("recover").out.startswith("nothing is open")


def test_no_value_of_an_env_file_is_in_any_artifact(tmp_path: Path) -> None:
    """A secret from an env file is in no log, report, argument list or journal, after good and bad releases."""
    stand = Stand(
        tmp_path, f"can{uuid.uuid4().hex[:6]}", proxied=False,
        environment={"VLLM_ENDPOINT": f"'http://user:{CANARY}@127.0.0.1:9/v1'"},
    )  # fmt: skip
    try:
        stand.make()
        said = stand.release("sha-1111111", "blue").out  # not ready: its AI endpoint does not answer
        said += stand.release("sha-bad0004", "blue", defect="crash-at-start").out
        said += stand.cutover("status").out
        assert CANARY not in said
        for path in [*stand.folder.rglob("*")]:
            private = (
                path.parent.name in {"blue", "green"} and path.suffix == ".yml"
            )  # the 0600 release files
            if path.is_file() and not private and not path.name.startswith(".env"):
                assert CANARY.encode() not in path.read_bytes(), path
    finally:
        stand.remove()


def test_old_releases_are_let_go_and_the_last_ones_kept(stand: Stand) -> None:
    """Only the images needed for a rollback are pinned; older pins are removed."""
    for number in range(4):
        done = stand.release(f"sha-3333{number:03}", "green")
        assert done.code == 0, done.out
    kept = stand.docker(
        "ps", "--all", "--filter", f"label=cutover.keep={stand.name}", "--format", "{{.Names}}"
    )
    images = {
        stand.docker("image", "inspect", "--format", "{{.Id}}", f"recall/api:sha-3333{n:03}").strip()
        for n in (1, 2, 3)
    }
    assert {f"cutover-keep-{stand.name}-{each.removeprefix('sha256:')[:12]}" for each in images} <= set(
        kept.split()
    )
    first = stand.docker("image", "inspect", "--format", "{{.Id}}", "recall/api:sha-3333000").strip()
    assert f"cutover-keep-{stand.name}-{first.removeprefix('sha256:')[:12]}" not in kept.split()

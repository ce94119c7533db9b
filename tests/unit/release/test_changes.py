"""Changes are values; the script that reverts them is sh that anybody may run."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cutover.core.change import PROMISE, UNDO_END, Change, line, undo_script
from cutover.release.changes import PreviousRelease, ensure_line, undo_lines, up_change
from cutover.system.compose import Compose
from cutover.system.swarm import Stack
from tests.helpers.containers import container


def change(name: str, *undo: str) -> Change:
    """A change that does nothing."""
    return Change(name, f"the {name}", ("true",), undo, 10.0)


@pytest.mark.parametrize(
    ("words", "within", "text"),
    [
        (("rm", "-f", "/a/b"), None, "rm -f /a/b"),
        (("rm", "-f", "/a b"), None, "rm -f '/a b'"),
        (("rm", "-f", "/it's"), 10, "timeout -k 10 10 rm -f '/it'\"'\"'s'"),
        (("echo", "$HOME", "`id`", "a;b", "*"), None, "echo '$HOME' '`id`' 'a;b' '*'"),
        (("echo", "", "a\nb"), 0.5, "timeout -k 10 0.5 echo '' 'a\nb'"),
    ],
)
def test_a_line_is_its_words(words: tuple[str, ...], within: float | None, text: str) -> None:
    """What a shell makes of a line are the words that were given, bounded where that is asked."""
    assert line(*words, within_s=within) == text
    if words[0] == "echo" and within is None:
        said = subprocess.run(("sh", "-c", text), capture_output=True, text=True, check=True).stdout
        assert said == " ".join(words[1:]) + "\n"


def test_the_newest_change_is_reverted_first() -> None:
    """Lines of one change in their order, those of later changes before those of earlier ones; empty ones are left out."""
    script = undo_script([change("up", "one", "two"), change("migrate"), change("switch", "three")])
    assert script == (f"# {PROMISE}\n# switch: the switch\nthree\n# up: the up\none\ntwo\n{UNDO_END}\n")


def test_the_traffic_is_reverted_before_anything_else() -> None:
    """What was changed after the switch (consumers) takes its time to be reverted; users do not wait for it."""
    script = undo_script([change("up", "one"), change("switch", "two"), change("stop", "three")])
    assert script.splitlines()[1:-1:2] == ["# switch: the switch", "# stop: the stop", "# up: the up"]


@pytest.mark.parametrize("changes", [[], [change("migrate")]])
def test_nothing_to_undo_is_a_script_that_does_nothing(changes: list[Change], tmp_path: Path) -> None:
    """A release that has changed nothing can be reverted too."""
    script = tmp_path / "undo.sh"
    script.write_text(undo_script(changes))
    assert subprocess.run(("sh", "-eu", str(script)), check=False).returncode == 0


def test_a_change_of_several_lines_of_text_stays_a_comment(tmp_path: Path) -> None:
    """A name or text with a line break does not become a command of the undo."""
    touched = tmp_path / "touched"
    script = tmp_path / "undo.sh"
    script.write_text(undo_script([Change("up", f"green\ntouch {touched}", ("true",), ("true",), 1.0)]))
    subprocess.run(("sh", "-eu", str(script)), check=True)
    assert not touched.exists()


COMPOSE = Compose("recall_green", Path("/s/releases/green/2.yml"))
UP = ("docker", "compose", "--project-name", "recall_green", "--file", "/s/releases/green/2.yml", "up")
FLAGS = ("--detach", "--no-deps", "--pull", "never", "--wait", "--wait-timeout", "20")
PREVIOUS = PreviousRelease(
    Path("/s/releases/green/1.yml"), {"api": "c1"}, {"recall:sha-1": "sha256:11"}, 20.0
)


@pytest.mark.parametrize(
    "known_as", ["recall:sha-1", "localhost/recall:sha-1", "docker.io/library/recall:sha-1"]
)
def test_images_are_named_as_in_the_release_file(tmp_path: Path, known_as: str) -> None:
    """The file is started again by that name; an engine may know the image by another one, as Podman does."""
    file = tmp_path / "1.yml"
    built = {"build": {"context": "."}}  # a service that is not released may have no image
    file.write_text(json.dumps({"services": {"tool": built, "api": {"image": "recall:sha-1"}}}))
    ran = {"api": replace(container(), image="sha256:11", image_name=known_as)}
    for text in ("", file.read_text()):
        assert PreviousRelease.of(file, ran, 20.0, text=text).images == {"recall:sha-1": "sha256:11"}


@pytest.mark.parametrize(
    "text",
    [
        '{"services": {"api": {"image": "recall:sha-2"}}}',
        "services: {api: {}} # by hand",
        '{"services": ',
        "[]",
        "",
    ],
)
def test_a_file_that_did_not_start_it_names_no_image(tmp_path: Path, text: str) -> None:
    """The undo must not give the tag of one release to the image of another one."""
    file = tmp_path / "1.yml"
    file.write_text(text)
    ran = {"api": replace(container(), image="sha256:11", image_name="recall:sha-1")}
    assert PreviousRelease.of(file, ran, 20.0).images == {"recall:sha-1": "sha256:11"}


def test_up_is_compose_up() -> None:
    """The do is one `up` of the rendered file, with a budget of the wait and a margin."""
    made = up_change(Path("/s"), COMPOSE, ("api",), text="green to sha-2", wait_s=20, previous=PREVIOUS)
    assert made.do == (*UP, *FLAGS, "api")
    assert made.budget_s > 20


@pytest.mark.parametrize("previous", [PREVIOUS, None], ids=["put back", "taken away"])
def test_a_long_grace_period_is_waited_for(previous: PreviousRelease | None) -> None:
    """What may take 90 s to stop is neither killed by the time limit of the do nor by that of the undo."""
    made = up_change(Path("/s"), COMPOSE, ("api",), text="", wait_s=20, previous=previous, grace_s=90)
    assert made.budget_s >= 20 + 90
    assert all(float(each.split()[3]) >= 90 + 30 for each in made.undo if "restore-service.sh" in each)


def test_what_was_not_healthy_is_put_back_without_a_wait() -> None:
    """Nobody waits for an old release to become what it was not: that revert would never end."""
    [*_, put] = undo_lines(Path("/s"), COMPOSE, ("api",), replace(PREVIOUS, wait_s=0.0))
    assert put.endswith("up --detach --no-deps --pull never api")


@pytest.mark.parametrize(("number", "scale"), [(1, ""), (4, " --scale api=4")])
def test_a_scaled_service_is_put_back_in_as_many_containers(number: int, scale: str) -> None:
    """The file says one, and somebody has scaled it by hand."""
    previous = replace(PREVIOUS, replicas={"api": number})
    [*_, put] = undo_lines(Path("/s"), COMPOSE, ("api",), previous)
    assert put.endswith(f" api{scale}")
    assert ensure_line(Path("/s"), COMPOSE, "api", previous).endswith(f" api{scale}")


def test_a_service_that_did_not_run_is_taken_away() -> None:
    """One of two services ran before: that one is put back, the other one is not started for the first time."""
    _, api, worker = undo_lines(Path("/s"), COMPOSE, ("api", "worker"), PREVIOUS)
    assert " recall_green api c1 docker compose " in api
    assert worker.endswith(" recall_green worker '' true")


def test_the_undo_of_up_is_the_previous_file() -> None:
    """The tag first, for it may have moved; then the service from the file that nobody edits, unless it never went."""
    lines = undo_lines(Path("/s"), COMPOSE, ("api",), PREVIOUS)
    assert lines == (
        "timeout -k 10 30 docker tag sha256:11 recall:sha-1",
        "timeout -k 10 140 sh /s/restore-service.sh recall_green api c1 "
        + shlex.join((*UP, *FLAGS, "api")).replace("2.yml", "1.yml"),
    )


def test_the_undo_of_a_first_up_takes_it_away() -> None:
    """Where nothing ran before, nothing runs afterwards."""
    lines = undo_lines(Path("/s"), COMPOSE, ("api", "worker"), None)
    assert lines == (
        "timeout -k 10 120 sh /s/restore-service.sh recall_green api '' true",
        "timeout -k 10 120 sh /s/restore-service.sh recall_green worker '' true",
    )


def test_the_old_color_is_made_sure_of_by_one_line() -> None:
    """Before the traffic goes back, the old color is started unless it runs."""
    text = ensure_line(Path("/s"), COMPOSE, "api", PreviousRelease(Path("/s/old.yml"), {}, {}, 20.0))
    assert text.startswith("timeout -k 10 80 sh /s/ensure-running.sh recall_green api docker compose ")


def test_the_undo_of_a_stack_is_its_previous_file() -> None:
    """A stack that ran is deployed again from its file; a service that did not run is removed."""
    stack = Stack("recall_green", Path("/s/releases/green/2.yml"))
    _, api, worker = undo_lines(Path("/s"), stack, ("api", "worker"), PREVIOUS)
    assert "/s/restore-stack.sh recall_green api" in api
    assert f"--compose-file {PREVIOUS.file} recall_green" in api
    assert "/s/restore-stack.sh recall_green worker '' true" in worker

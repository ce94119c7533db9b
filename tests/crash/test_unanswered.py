"""A question that fails is not the answer "nothing there": no shell file goes on from it, and its next run is complete."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

from cutover.system import process

ROOT = Path(__file__).parents[2]
SHIPPED = {
    each.name: ROOT / "cutover" / folder / "scripts" / each.name
    for folder in ("release", "proxy")
    for each in (resources.files(f"cutover.{folder}") / "scripts").iterdir()
} | {each.name: each for each in (ROOT / "deploy").rglob("*.sh")}
FAILS = "fails"
DOCKER = """#!/bin/sh
# Answers call N by the file N, else with nothing; a file that says "fails" is a failure.
echo "$*" >>"$PLACE/calls"
n=$(wc -l <"$PLACE/calls"); answer=
if [ -e "$PLACE/$n" ]; then answer=$(cat "$PLACE/$n"); fi
if [ "$answer" = fails ]; then echo "no leader" >&2; exit 1; fi
if [ -n "$answer" ]; then echo "$answer"; fi
"""


@dataclass(frozen=True)
class Engine:
    """A docker command that gives the answers that it is told, one after the other."""

    folder: Path

    def run(self, script: str, *words: str, answers: tuple[str, ...]) -> tuple[int, list[str]]:
        """The exit code of the shell file, and what it asked and told the engine."""
        for number, answer in enumerate(answers, 1):
            (self.folder / str(number)).write_text(answer)
        (self.folder / "calls").write_text("")
        environment = {"PATH": f"{self.folder}:{process.FIXED_PATH}", "PLACE": str(self.folder)}
        done = subprocess.run(
            ("sh", str(self.folder / script), *words), env=environment, check=False, timeout=30
        )
        return done.returncode, (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """The engine, with the shell files of the state directory beside it."""
    for name in ("restore-stack.sh", "restore-service.sh", "ensure-running.sh"):
        (tmp_path / name).write_text(SHIPPED[name].read_text())
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    return Engine(tmp_path)


STACK = ("restore-stack.sh", "recall_green", "api", "", "true")
SERVICE = ("restore-service.sh", "recall_green", "api", "c1", "docker", "up")
ENSURE = ("ensure-running.sh", "recall_green", "api", "docker", "up")


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        pytest.param(STACK, (FAILS,), id="services of the stack"),
        pytest.param(STACK, ("recall_green_web", FAILS), id="its tasks"),
        pytest.param(STACK, ("recall_green_web", "t1", FAILS), id="its tasks, in the wait"),
        pytest.param(STACK, ("recall_green_web", "", FAILS), id="nodes"),
        pytest.param(STACK, ("recall_green_web", "", "Ready n1", FAILS), id="tasks on all nodes"),
        pytest.param(
            STACK, ("recall_green_web", "", "Ready n1", "Remove", FAILS), id="tasks on all nodes, in the wait"
        ),
        pytest.param(
            STACK, ("recall_green_web", "", "Ready n1", "Running", FAILS), id="services that are left"
        ),
        pytest.param(SERVICE, (FAILS,), id="containers"),
        pytest.param(SERVICE, ("c1", FAILS), id="running containers"),
        pytest.param(ENSURE, (FAILS,), id="running before"),
        pytest.param(ENSURE, ("c1", FAILS), id="well before"),
        pytest.param(ENSURE, ("c1", "", FAILS, FAILS), id="running after"),
    ],
)
def test_a_question_that_fails_ends_the_undo_and_removes_nothing(
    engine: Engine, words: tuple[str, ...], answers: tuple[str, ...]
) -> None:
    """The undo fails, so that it is run again; no stack, service or container was removed for it."""
    code, calls = engine.run(*words, answers=answers)
    assert code == 1
    assert len(calls) == len(answers)
    assert not [call for call in calls if call.split()[0] in {"stack", "stop", "rm"} or " rm " in call]


@pytest.mark.parametrize(
    ("words", "answers", "told"),
    [
        pytest.param(STACK, ("", "", "", "", ""), "stack rm recall_green", id="the last service"),
        pytest.param(STACK, ("", "", "", "", "recall_green_web"), "", id="one of two services"),
        pytest.param(SERVICE, ("c1", "c1"), "", id="runs as before"),
        pytest.param(SERVICE, ("c1", ""), "up", id="was stopped"),
    ],
)
def test_an_answer_of_nothing_is_believed(
    engine: Engine, words: tuple[str, ...], answers: tuple[str, ...], told: str
) -> None:
    """The stack goes with its last service, and a container that does not run is replaced."""
    code, calls = engine.run(*words, answers=answers)
    assert (code, calls[len(answers) :][-1:]) == (0, [told] if told else [])


def test_a_stack_goes_when_no_node_that_is_up_has_a_task_of_it(engine: Engine) -> None:
    """The tasks are asked of the nodes that are ready, again while one is still to be removed."""
    nodes = "Ready n1\nDown n2\nReady n3"
    code, calls = engine.run(*STACK, answers=("", "", nodes, "Running\nRemove", "", nodes, "Running", ""))
    asked = [call for call in calls if call.startswith("node ps")]
    assert (code, calls[-1]) == (0, "stack rm recall_green")
    assert len(asked) == 2
    assert all(call.endswith("com.docker.stack.namespace=recall_green n1 n3") for call in asked)


def test_a_service_that_was_put_back_is_not_removed_when_that_cannot_be_read(engine: Engine) -> None:
    """The note of an earlier run says that what runs was started by it."""
    (engine.folder / "put-back.recall_green.api").mkdir()
    code, calls = engine.run(*SERVICE, answers=("c2",))
    assert (code, [call.split()[0] for call in calls]) == (1, ["ps"])


@pytest.mark.parametrize(
    ("script", "unreadable"),
    [("revert.sh", "open"), ("revert.sh", "unrecorded.json"), ("step.sh", "open")],
)
def test_a_state_that_cannot_be_read_is_neither_closed_nor_reverted(
    tmp_path: Path, script: str, unreadable: str
) -> None:
    """Neither exit code is the one that says that the release is not open, and the release stays open."""
    (tmp_path / "undo.sh").write_text("# end of the undo\n")
    (tmp_path / "undo.new").write_text("# end of the undo\n")
    (tmp_path / "open").write_text("r1\n")
    (tmp_path / unreadable).unlink(missing_ok=True)
    (tmp_path / unreadable).mkdir()
    argv = ("sh", str(SHIPPED[script]), str(tmp_path), "r1", "5", "true")
    done = subprocess.run(argv[: 4 if script == "revert.sh" else None], capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (1, f"{tmp_path / unreadable} cannot be read\n")
    assert (tmp_path / "open").exists()


def test_haproxy_that_is_silent_has_no_live_color(tmp_path: Path) -> None:
    """`switch.sh` fails with the question, instead of printing nothing."""
    (tmp_path / "socat").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "socat").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{process.FIXED_PATH}"}
    done = subprocess.run(
        ("sh", str(SHIPPED["switch.sh"])), env=environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, b"")


ASKED_IN_A_CONDITION = re.compile(
    r"""\[\ -[nz]\ "\$\((?!cat\ )          # [ -z "$(services)" ]
    | \[\ "\$\((?!cat\ |date\ |live\))      # [ "$(ours)" = "$id" ]
    | \b(?:if|while|until)\ \w+=\$\(        # while left=$(ask ps)
    """,
    re.VERBOSE,
)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_no_shell_file_asks_the_engine_in_a_condition(name: str) -> None:
    """There `set -e` has no effect: the answer is assigned first."""
    lines = [line for line in SHIPPED[name].read_text().splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in lines if ASKED_IN_A_CONDITION.search(line)]

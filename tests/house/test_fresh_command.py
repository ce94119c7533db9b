"""scripts/test and scripts/demo as commands: linters, words, steps, mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.fresh import cli, lint, run, steps


def test_workflows_are_linted_where_there_are_any() -> None:
    """Every linter is a pinned one, by its path."""
    every = list(lint.words(Path("/v/bin"), ["a.sh"], workflows=Path("/clone/.github/workflows")))
    fewer = list(lint.words(Path("/v/bin"), ["a.sh"], workflows=None))
    assert {words[0] for words in every} == {
        f"/v/bin/{name}" for name in ("ruff", "shellcheck", "zizmor", "mypy")
    }
    assert set(every) - set(fewer) == {("/v/bin/zizmor", "--offline", "--quiet", "/clone/.github/workflows")}


@pytest.mark.parametrize(
    ("command", "rest", "words"),
    [
        ("test", ["-k", "a b"], ("/v/python", "-m", "pytest", "-k", "a b")),
        ("test", [], ("/v/python", "-m", "pytest", *cli.WHOLE)),
        ("demo", [], ("/v/python", "-m", "examples.demo")),
    ],
)
def test_becomes_what_was_asked_for(command: str, rest: list[str], words: run.Words) -> None:
    """The arguments of the caller are passed on as they are; without any the whole runs, two tests at a time."""
    assert cli.last_words(command, "/v/python", rest) == words


def test_pinned_tools_come_first() -> None:
    """A tool of the environment is found before the machine's, and the administrators' are found too."""
    assert cli.path(Path("/v/bin"), "/usr/bin").split(":") == ["/v/bin", "/usr/bin", *run.SBIN]


def test_a_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What was done, and how long it took; a failure says so."""
    with steps.step("engine: starting it"):
        pass
    with pytest.raises(steps.StopError), steps.step("apt: installing"):
        raise steps.StopError("no")
    assert [line.rsplit(" ", 2)[0] for line in capsys.readouterr().out.splitlines()] == [
        "engine: starting it ...",
        "apt: installing ... failed after",
    ]


def test_a_command_that_cannot_start_is_an_answer() -> None:
    """A missing tool, a failing one and a hanging one end in the same kind of answer."""
    assert run.ask(("/nowhere/tool",), seconds=60).code is None
    assert run.ask(("sh", "-c", "echo seen; exit 3"), seconds=60) == run.Done(3, "seen\n")
    with pytest.raises(steps.StopError, match=r"ended with 3\n    seen"):
        run.must(("sh", "-c", "echo seen; exit 3"), seconds=60)


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is brought to the machine before the command is understood."""
    assert (cli.main([]), cli.main(["deploy"])) == (2, 2)
    assert capsys.readouterr().err.startswith("usage: python3 -m scripts.fresh")

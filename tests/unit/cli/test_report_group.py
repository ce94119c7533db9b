"""`cutover report html`: four subcommands behind one name."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cutover.cli.main import cutover


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "--help"), "comment"),
        (("report", "changes", "--help"), "two finished sessions"),
        (("report", "html", "--help"), "evidence.jsonl"),
        (("report", "postmortem", "--help"), "postmortem"),
        (("report", "comment", "--help"), "--ticket"),
    ],
)
def test_groups_what_is_made_of_a_session(words: tuple[str, ...], said: str) -> None:
    """changes, html, postmortem and comment are below `report`."""
    done = CliRunner().invoke(cutover, words)
    assert (done.exit_code, said in done.output) == (0, True), done.output


@pytest.mark.parametrize("name", ["postmortem", "attach", "report-group", "common"])
def test_has_one_name_for_each(name: str) -> None:
    """What is below `report`, and files that hold no command, are no commands beside it."""
    done = CliRunner().invoke(cutover, (name, "--help"))
    assert done.exit_code == 2, done.output

"""The env file format, read back by the real Compose (which needs no engine for it)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from cutover.env import dotenv
from cutover.errors import UsageProblem

if TYPE_CHECKING:
    from pathlib import Path

VALUES = (
    *(
        "",
        "plain",
        "two words",
        " both ends ",
        "a#b",
        "a # b",
        "# all comment",
        "a=b",
        "export A=1",
        "{{ x }}",
    ),
    *(
        "$HOME",
        "${HOME}",
        "$$",
        "pa$wd",
        "!",
        "`x`",
        "\\",
        "end\\",
        "\\'",
        "a\\nb",
        "a\nb",
        "tab\there",
        "cr\r",
    ),
    *("it's", '"', "'", "é 漢", "'single' and \"double\" $x \\"),
)


def test_compose_reads_back_what_was_written(tmp_path: Path) -> None:
    """Each value is read back exactly: quotes, dollars, blanks, hashes, newlines, and 500 drawn ones."""
    draw = random.Random(815)  # noqa: S311 - the same values in each run
    letters = "abn$ '\"\\#{}=\n`!%&\t\r:/@é"
    drawn = ["".join(draw.choices(letters, k=draw.randint(1, 12))) for _ in range(500)]
    values = {f"K{number}": value for number, value in enumerate((*VALUES, *drawn))}
    path = tmp_path / "pa$th.env"
    path.write_text(dotenv.written(values, head=["a comment"]), newline="")
    assert dotenv.read(path) == values


def test_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    """Keys come in the order of the file, whatever Compose sorts them by."""
    path = tmp_path / "x.env"
    path.write_text("# B=0\nZ=1\nexport B=2\nA=3\n")
    assert list(dotenv.read(path).items()) == [("Z", "1"), ("B", "2"), ("A", "3")]


@pytest.mark.parametrize("text", ["A=1\nB C=2\n", "A='open\n"])
def test_says_what_cannot_be_read(tmp_path: Path, text: str) -> None:
    """A file that Compose cannot read is an error with its name."""
    path = tmp_path / "x.env"
    path.write_text(text)
    with pytest.raises(UsageProblem, match=r"x\.env"):
        dotenv.read(path)


def test_refuses_what_no_environment_can_carry() -> None:
    """A NUL character is refused before anything is written."""
    with pytest.raises(ValueError, match="NUL"):
        dotenv.quoted("a\0b")

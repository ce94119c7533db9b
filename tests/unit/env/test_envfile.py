"""Env files: read back by the real Compose (no engine is needed), and rewritten by a release."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from cutover.core.errors import ConfigError
from cutover.env import envfile
from cutover.env.envfile import set_env_value

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
    """Each value is read back exactly: quotes, dollars, blanks, hashes, newlines, and 500 random ones."""
    draw = random.Random(815)  # noqa: S311 - the same values in each run
    letters = "abn$ '\"\\#{}=\n`!%&\t\r:/@é"
    drawn = ["".join(draw.choices(letters, k=draw.randint(1, 12))) for _ in range(500)]
    values = {f"K{number}": value for number, value in enumerate((*VALUES, *drawn))}
    path = tmp_path / "pa$th.env"
    path.write_text(envfile.format_env_file(values, head=["a comment"]), newline="")
    assert envfile.read_env_file(path) == values


def test_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    """Keys have the order of the file, although Compose sorts them."""
    path = tmp_path / "x.env"
    path.write_text("# B=0\nZ=1\nexport B=2\nA=3\n")
    assert list(envfile.read_env_file(path).items()) == [("Z", "1"), ("B", "2"), ("A", "3")]


@pytest.mark.parametrize("text", ["A=1\nB C=2\n", "A='open\n"])
def test_says_what_cannot_be_read(tmp_path: Path, text: str) -> None:
    """The error for a malformed file names the file."""
    path = tmp_path / "x.env"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.env"):
        envfile.read_env_file(path)


def test_refuses_what_no_environment_can_carry() -> None:
    """A NUL character is refused before anything is written."""
    with pytest.raises(ValueError, match="NUL"):
        envfile.quote_value("a\0b")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("IMAGE_TAG=sha-1\n", "IMAGE_TAG=sha-2\n"),
        ("A=1\nIMAGE_TAG=sha-1\nB=2\n", "A=1\nIMAGE_TAG=sha-2\nB=2\n"),
        ("IMAGE_TAG=sha-1 # written by a release\nB=2\n", "IMAGE_TAG=sha-2 # written by a release\nB=2\n"),
        ("export IMAGE_TAG='sha-1'\n", "export IMAGE_TAG=sha-2\n"),
        ('IMAGE_TAG = "sha-1"', "IMAGE_TAG =sha-2"),
        ("IMAGE_TAG=\n", "IMAGE_TAG=sha-2\n"),
        ("IMAGE_TAG= # none yet\n", "IMAGE_TAG=sha-2 # none yet\n"),
        ("# IMAGE_TAG=sha-0\nMY_IMAGE_TAG=x\n", "# IMAGE_TAG=sha-0\nMY_IMAGE_TAG=x\n"),
        ("IMAGE_TAG=sha-2\n", "IMAGE_TAG=sha-2\n"),
    ],
)
def test_names_the_release_that_runs(tmp_path: Path, before: str, after: str) -> None:
    """Only the value of the key changes; comments and other lines are kept."""
    path = tmp_path / ".env"
    path.write_text(before)
    set_env_value(path, "IMAGE_TAG", "sha-2")
    assert path.read_text() == after


def test_a_link_stays_a_link_with_its_owner_and_mode(tmp_path: Path) -> None:
    """A symbolic link stays a link, and the target keeps owner and mode."""
    target, link = tmp_path / "secrets" / "green", tmp_path / ".env.green"
    target.parent.mkdir()
    target.write_text("IMAGE_TAG=sha-1\n")
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(target, 12345, 54321)
    before = target.stat()
    link.symlink_to(target)
    set_env_value(link, "IMAGE_TAG", "sha-2")
    after = target.stat()
    assert link.is_symlink()
    assert target.read_text() == "IMAGE_TAG=sha-2\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [each.name for each in target.parent.iterdir()] == ["green"]

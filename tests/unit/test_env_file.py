"""The env file of a colour, which a person writes and a release corrects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cutover.deploying import rewrite_tag


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
    """One value changes; the rest of the file, comments too, stays as a person wrote it."""
    path = tmp_path / ".env"
    path.write_text(before)
    rewrite_tag(path, "IMAGE_TAG", "sha-2")
    assert path.read_text() == after


def test_a_link_stays_a_link_with_its_owner_and_mode(tmp_path: Path) -> None:
    """An env file may lie elsewhere, and belong to who deploys: only its text changes."""
    target, link = tmp_path / "secrets" / "green", tmp_path / ".env.green"
    target.parent.mkdir()
    target.write_text("IMAGE_TAG=sha-1\n")
    target.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(target, 12345, 54321)
    before = target.stat()
    link.symlink_to(target)
    rewrite_tag(link, "IMAGE_TAG", "sha-2")
    after = target.stat()
    assert link.is_symlink()
    assert target.read_text() == "IMAGE_TAG=sha-2\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [each.name for each in target.parent.iterdir()] == ["green"]

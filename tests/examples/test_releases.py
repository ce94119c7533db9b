from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from examples.building import fingerprint, words
from examples.catalogue import DEFECTS
from examples.releases import Release, listing, main

if TYPE_CHECKING:
    from pathlib import Path

COMMON = "FROM base\nUSER 10001:10001\nHEALTHCHECK CMD true\n"


@pytest.mark.parametrize(
    "tag", ["latest", "sha-123456", "sha-12345678", "sha-GGGGGGG", "1111111", "sha-1111111\n", ""]
)
def test_a_tag_names_a_commit(tag: str) -> None:
    """A tag that is not sha-<7 hex digits> is rejected."""
    with pytest.raises(ValueError, match="is not of the form"):
        Release(tag)


def test_an_unknown_defect_is_answered_with_the_known_ones() -> None:
    """The error for an unknown defect lists the known ones."""
    with pytest.raises(ValueError, match=r"unknown defect 'wrong-versoin': there are wrong-version, "):
        Release("sha-1111111", "wrong-versoin")


@pytest.mark.parametrize("revisions", [1, 5])
def test_a_release_knows_the_revisions_that_its_code_needs(revisions: int) -> None:
    """The number of revisions must suffice for the code."""
    with pytest.raises(ValueError, match="revisions: there are 2 to 4"):
        Release("sha-1111111", revisions=revisions)


@pytest.mark.parametrize(
    ("release", "lines"),
    [
        (Release("sha-1111111"), ["ENV BUILT_AS=sha-1111111"]),
        (
            Release("sha-1111111", "wrong-version"),
            ["ENV BUILT_AS=sha-1111111", "ENV DEFECT=wrong-version DEFECT_SECONDS=20"],
        ),
        (
            Release("sha-1111111", "breaks-later", 0.5),
            ["ENV BUILT_AS=sha-1111111", "ENV DEFECT=breaks-later DEFECT_SECONDS=0.5"],
        ),
        (
            Release("sha-2222222", "no-healthcheck"),
            ["ENV BUILT_AS=sha-2222222", "ENV DEFECT=no-healthcheck DEFECT_SECONDS=20", "HEALTHCHECK NONE"],
        ),
        (
            Release("sha-2222222", revisions=3),
            [
                "USER 0",
                (
                    "RUN rm -r recall/migrations/versions/*c40e_pinned* "
                    "recall/migrations/contract recall/migrations/broken"
                ),
                "USER 10001:10001",
                "ENV BUILT_AS=sha-2222222",
            ],
        ),
        (
            Release("sha-2222222", "runs-as-root"),
            ["ENV BUILT_AS=sha-2222222", "ENV DEFECT=runs-as-root DEFECT_SECONDS=20", "USER 0:10001"],
        ),
    ],
)
def test_a_bad_release_differs_by_its_last_lines_only(release: Release, lines: list[str]) -> None:
    """All releases share the common Dockerfile and differ only in the last lines."""
    text = release.dockerfile(COMMON)
    assert text.startswith(COMMON)
    assert text[len(COMMON) :].splitlines() == lines


def test_the_build_command_is_words(tmp_path: Path) -> None:
    """A build reads its Dockerfile from standard input and sets the given labels."""
    assert words("recall/api:sha-1111111", tmp_path, {"a": "b", "c": "d"}) == (
        *("docker", "build", "--quiet", "--label", "a=b", "--label", "c=d"),
        *("--tag", "recall/api:sha-1111111", "--file", "-", str(tmp_path)),
    )


def test_the_fingerprint_changes_with_all_that_goes_into_an_image(tmp_path: Path) -> None:
    """The fingerprint changes with the Dockerfile and every file's content, name and folder, but not with caches."""
    (tmp_path / "sub").mkdir()
    file = tmp_path / "a.py"
    seen = []

    def look(dockerfile: str = "FROM x") -> None:
        seen.append(fingerprint(dockerfile, tmp_path))

    file.write_text("1")
    look()
    look("FROM y")
    file.write_text("2")
    look()
    (tmp_path / "b.py").write_text("")
    look()
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    look()
    (tmp_path / "c.py").rename(tmp_path / "sub" / "c.py")
    look()
    assert len(set(seen)) == len(seen)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("")
    assert fingerprint("FROM x", tmp_path) == seen[-1]


def test_the_list_shows_every_defect_once(capsys: pytest.CaptureFixture[str]) -> None:
    """`list` shows every defect once."""
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    names = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert sorted(names) == sorted(DEFECTS)
    assert shown == listing() + "\n"


@pytest.mark.parametrize("given", [["build", "latest"], ["build", "sha-1111111", "--defect", "nothing"]])
def test_a_wrong_word_is_one_line_and_exit_1(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid argument gives a one-line error and exit code 1."""
    assert main(given) == 1
    out, err = capsys.readouterr()
    assert not out
    assert len(err.splitlines()) == 1

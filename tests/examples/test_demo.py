"""Acts, command line and output of the demo."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import demo
from examples.catalogue import DEFECTS
from examples.stand import REPOSITORY
from examples.visitors import told


def test_shows_what_a_release_may_come_to() -> None:
    """A good release is kept, and one release of each kind of defect is reverted."""
    shown = {act.defect: act.code for act in demo.ACTS}
    assert shown == {
        None: 0, "wrong-version": 1, "crash-at-start": 1, "never-ready": 1, "error-spike": 1, "breaks-later": 1,
    }  # fmt: skip


@pytest.mark.parametrize("act", demo.ACTS, ids=lambda act: act.tag)
def test_an_act_can_be_played(act: demo.Act) -> None:
    """The script exists, the defect is in the catalog, and only a good release serves afterwards."""
    assert Path(REPOSITORY, act.script).stat().st_mode & 0o100
    assert act.defect is None or act.defect in DEFECTS
    assert act.serves == (act.tag if act.code == 0 else demo.SECOND)


@pytest.mark.parametrize(("words", "proxy"), [([], "nginx"), (["--proxy=traefik"], "traefik")])
def test_the_proxy_is_a_choice(words: list[str], proxy: str) -> None:
    """The default is nginx, Traefik can be selected, and another name is a usage error."""
    assert demo.proxy_of(words) == proxy
    with pytest.raises(SystemExit):
        demo.proxy_of(["--proxy=apache"])


def test_no_two_acts_share_a_tag() -> None:
    """Every act releases a tag of its own."""
    assert len({act.tag for act in demo.ACTS}) == len(demo.ACTS)


@pytest.mark.parametrize(
    ("results", "code", "line"),
    [
        ([True, True], 0, "2 of 2 as they must, in 90 s"),
        ([True, False], 1, "1 of 2 as they must, in 90 s"),
    ],
)
def test_counts_what_was_as_it_must(
    results: list[bool], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 0 only if every act ended as expected; the last line is the folder of the reports."""
    assert demo.ended(results, 90.2) == code
    said = capsys.readouterr().out.split("\n")
    assert said[1] == line
    assert said[2].endswith(str(REPOSITORY / "reports"))


@pytest.mark.parametrize(
    ("answered", "failed", "line"),
    [
        ({"sha-1": 2, "sha-2": 3}, 0, "5 requests: 2 answered by sha-1, 3 by sha-2, 0 failed"),
        ({"sha-1": 2}, 1, "3 requests: 2 answered by sha-1, 1 failed"),
        ({}, 4, "4 requests: 4 failed"),
        ({}, 0, "0 requests: 0 failed"),
    ],
)
def test_tells_what_visitors_saw(answered: dict[str, int], failed: int, line: str) -> None:
    """One line has the number of requests, the responses by release, and the failures."""
    assert told(answered, failed) == line


def test_reads_only_whole_lines(tmp_path: Path) -> None:
    """An incomplete last line is ignored."""
    path = tmp_path / "evidence.jsonl"
    path.write_text('{"kind": "step", "name": "switch"}\n{"kind": "st')
    assert demo.rows(path) == [{"kind": "step", "name": "switch"}]


def test_one_demo_a_checkout() -> None:
    """A second demo in the same checkout fails to get the lock."""
    with demo.alone(), pytest.raises(BlockingIOError), demo.alone():
        pass

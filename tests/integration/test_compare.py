"""Before the switch the new release is compared with the live one: what is told, what decides, what a user's data is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.releases import build
from examples.stand import REPOSITORY, Result, Stand, latest
from tests.helpers.live_stand import live_stand

pytestmark = pytest.mark.engine
V1, SAME, GONE, BROKEN = "sha-c0a0001", "sha-c0a0002", "sha-c0a0003", "sha-c0a0004"
COMPARE = """
[compare]
file = "requests.jsonl"
rate = 200.0
within = "10s"
"""
CANARY = "canary-4711-of-a-user"
REQUESTS = [
    {"path": "/version", "headers": {"Cookie": CANARY, "Authorization": f"Bearer {CANARY}"}},
    {"path": f"/slow?seconds=0&token={CANARY}"},
    {"path": "/readyz"},
]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand where V1 is live on blue, with `[compare]` by a file and by the log."""
    folder = tmp_path_factory.mktemp("stand")
    (folder / "deploy").mkdir()
    (folder / "deploy" / "requests.jsonl").write_text("\n".join(map(json.dumps, REQUESTS)))
    with live_stand(folder, "comp", V1, extra=COMPARE) as made:
        build(SAME)
        build(GONE, "drops-field")
        build(BROKEN, "rare-error")
        yield made


def staged(stand: Stand, tag: str) -> Result:
    """Deploy *tag* to the idle color and gate it."""
    return stand.pytest("smoke", "--target=idle", f"--deploy={tag}")


def said(done: Result) -> str:
    """What it printed, on one line."""
    return " ".join(done.out.split())


def compared(stand: Stand) -> dict[str, Any]:
    """The verdict of the comparison in the last session."""
    evidence = (latest(stand.folder) / "evidence.jsonl").read_text()
    rows = [json.loads(line) for line in evidence.splitlines()]
    (row,) = [each for each in rows if each["kind"] == "check" and each["verdict"]["question"] == "compare"]
    verdict: dict[str, Any] = row["verdict"]
    return verdict


def test_a_release_that_answers_the_same(stand: Stand) -> None:
    """Tags and colors differ between any two releases and are no difference; users' requests come from the log."""
    for _ in range(3):
        stand.ask("/metrics")
    done = staged(stand, SAME)
    assert done.code == 0, done.out
    found = compared(stand)["evidence"]
    assert [each["text"] for each in found["differences"]] == []
    assert found["routes"] == 4  # /metrics is of the log
    assert "built_as" not in " ".join(found["noise"])


def test_a_difference_is_told_and_decides_nothing(stand: Stand) -> None:
    """One line in the terminal, and a part of the page with both answers side by side; also by the checklist alone."""
    done = staged(stand, GONE)
    assert done.code == 0, done.out
    assert "smoke[idle] compare: 4 requests on 4 routes: 1 difference, reported only: GET" in said(done)
    assert '/version: field "built_as" is gone, 1 of 1' in said(done)
    page = (latest(stand.folder) / "report.html").read_text()
    assert "What changes for users" in page
    assert re.search(r"GET /version: field .{1,12}built_as.{1,12} is gone, 1 of 1", page)
    done = stand.pytest("smoke/test_compare.py", "--target=idle")
    assert done.code == 0, done.out
    assert 'field "built_as" is gone' in said(done)
    done = stand.pytest("smoke/test_compare.py", "--target=live")
    assert "live is what users have: there is nothing to compare it with" in said(done)


def test_a_team_gives_requests_of_its_own(stand: Stand, tmp_path: Path) -> None:
    """The example of docs/compare.md, beside a copy of the checklist: its requests are asked in place of all others."""
    shutil.copytree(REPOSITORY / "smoke", tmp_path / "smoke")
    (example,) = re.findall(
        r'```python title="conftest.py"\n(.*?)```', (REPOSITORY / "docs/compare.md").read_text(), re.DOTALL
    )
    (tmp_path / "conftest.py").write_text(example)
    done = stand.pytest("smoke/test_compare.py", "--target=idle", cwd=tmp_path)
    assert done.code == 0, done.out
    assert compared(stand)["reason"] == "2 requests on 2 routes: no difference"


def test_an_error_that_users_do_not_have_now_fails_the_release(stand: Stand) -> None:
    """By default a 5xx decides; nothing that identifies a user is in any file or was sent."""
    done = staged(stand, BROKEN)
    assert done.code == 1, done.out
    assert "compare: GET /slow: 500 instead of 200, 1 of 1 (of 4 requests on 4 routes)" in said(done)
    assert stand.ask()["version"] == V1
    found = [
        each
        for each in Path(stand.folder / "reports").rglob("*")
        if each.is_file() and CANARY in each.read_text(errors="replace")
    ]
    assert found == []
    assert CANARY not in done.out
    assert "GET /slow?seconds=…&amp;token=…" in (latest(stand.folder) / "report.html").read_text()


def test_a_bad_file_is_one_line(stand: Stand) -> None:
    """It ends the session before anything is deployed."""
    file = stand.config.parent / "requests.jsonl"
    text = file.read_text()
    file.write_text("{")
    try:
        done = staged(stand, SAME)
        assert done.code == 4, done.out
        assert f"{file} (compare.file): line 1: Expecting property name" in said(done)
    finally:
        file.write_text(text)

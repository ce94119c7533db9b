"""A full cutover: timetable with owners, approval, write freeze, hooks."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import threading
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest

from examples.releases import build
from examples.stand import REPOSITORY, Stand

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.engine

FIRST, NEXT = "sha-6600001", "sha-6600002"
CUTOVER = ("smoke", "checks", "--target=idle", "--switch")
EXTRA = """
[freeze]
max_duration = "5m"

[hooks]
command = ["sh", "-c", 'env | grep "^CUTOVER_" > "{folder}/notice of $CUTOVER_EVENT"']

[approval]
required = true
time_zone = "Asia/Tokyo"
prerequisites = ["staging passed", "backups confirmed"]
owners = {{ T-0 = "ana", "T+15m" = "bo" }}
"""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand on which the first release is live."""
    folder = tmp_path_factory.mktemp("show")
    made = Stand(folder, f"show{uuid.uuid4().hex[:6]}", extra=EXTRA.format(folder=folder))
    try:
        made.make()
        build(NEXT)
        done = made.release(FIRST, "live")
        assert done.code == 0, done.out
        yield made
    finally:
        made.remove()


def session(stand: Stand, *more: str, **environment: str) -> tuple[int, str]:
    """Run the cutover to NEXT without a terminal; return exit code and output."""
    process = stand.start(*CUTOVER, f"--deploy={NEXT}", *more, **environment)
    said, _ = process.communicate(timeout=600)
    return process.returncode, said


def served(stand: Stand) -> object:
    """The tag that the proxy serves."""
    return stand.ask()["version"]


def test_the_plan_names_the_moments_and_their_owners(stand: Stand) -> None:
    """The plan lists each step with its time and owner, also in the configured time zone."""
    code, said = session(stand, "--plan")
    assert code == 0, said
    moments = [line for line in said.splitlines() if " UTC (" in line]
    assert [line.split()[1] for line in moments] == ["T-15m", "T-10m", "T-0", "T+15m"]
    assert ")  ana: " in moments[2]
    assert ")  bo: " in moments[3]


@pytest.mark.parametrize(
    ("approved", "why"),
    [
        ({}, f"nobody can be asked here: no terminal, and CUTOVER_APPROVED_TAG is not set to {NEXT}"),
        ({"CUTOVER_APPROVED_TAG": FIRST}, f"CUTOVER_APPROVED_TAG approves {FIRST}, not {NEXT}"),
    ],
)
def test_silence_and_an_old_approval_are_no_go(stand: Stand, approved: dict[str, str], why: str) -> None:
    """Without an approval for this tag there is no switch, and the idle color is reverted."""
    code, said = session(stand, **approved)
    assert code == 1, said
    assert f"no-go: {why}" in " ".join(said.split())
    assert served(stand) == FIRST
    assert stand.running("green") == []


class Writer:
    """A client that writes continuously and counts the responses."""

    def __init__(self, url: str) -> None:
        self.seen: Counter[tuple[int, bool]] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, args=(url,))

    def __enter__(self) -> Counter[tuple[int, bool]]:
        self._thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _write(self, url: str) -> None:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while not self._over.is_set():
                answer = client.post(f"{url}/nothing-is-here", content=b"{}")
                self.seen[answer.status_code, "Retry-After" in answer.headers] += 1
                self._over.wait(0.01)


def test_a_person_says_go_and_writes_wait_meanwhile(stand: Stand, tmp_path: Path) -> None:
    """Approval at the terminal; writes get 503 with Retry-After during the switch; the hooks get all values."""
    with Writer(stand.url) as seen:
        code, said = at_a_terminal(stand, answers=3)
    assert code == 0, said
    assert "staging passed: confirmed? [yes/no]" in said
    assert "decides: ana" in said
    assert served(stand) == NEXT
    assert seen[503, True] > 0
    assert set(seen) == {(404, False), (503, True)}
    assert not (stand.marker / "freeze").exists()
    told = {
        path.name.removeprefix("notice of "): path.read_text() for path in stand.folder.glob("notice of *")
    }
    assert {"begin", "switched", "released"} <= set(told)
    facts = (
        "CUTOVER_WHO=ana@",
        f"CUTOVER_TO={NEXT}",
        "CUTOVER_COLOR=green",
        "+09:00",
        "CUTOVER_EXIT_CODE=0",
    )
    assert [each for each in facts if each not in told["released"]] == []


def at_a_terminal(stand: Stand, *, answers: int) -> tuple[int, str]:
    """Run the cutover on a terminal of its own and answer yes *answers* times."""
    master, slave = pty.openpty()
    words = stand.pytest_words(*CUTOVER, f"--deploy={NEXT}")
    # Handed over, not opened by its name: /dev/pts may be another mount than the one that the terminal is of.
    own = ("setsid", "--ctty", *words)
    process = subprocess.Popen(
        own, env=stand.shell(), cwd=REPOSITORY, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    said, deadline = "", time.monotonic() + 600
    with os.fdopen(master, "rb+", buffering=0) as terminal:
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    said += os.read(master, 4096).decode(errors="replace")
                except OSError:  # the other end is closed: the session is over
                    break
            if said.count("[yes/no]") > 3 - answers:
                terminal.write(b"yes\n")
                answers -= 1
    return process.wait(timeout=60), said

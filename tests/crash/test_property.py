"""Any changes, failures and crashes in any order: what reverts a release restores exactly what was there."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutover.core.change import Change, line, undo_script
from cutover.proxy.base import COLORS, other
from cutover.proxy.nginx import flip
from cutover.release.state import State, did_revert
from cutover.system.files import close_lock, write_atomically
from tests.crash.place import lives, until
from tests.helpers.proxy_files import create_marker

ID = "20250904T021000-7"
MAX_S = 600.0
FILES = ("a", "b c", "it's")
LESS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)

Kind = Literal["write", "remove", "switch"]
Fate = Literal[
    "done",
    "failed before",
    "failed half",
    "failed after",
    "crash before undo",
    "crash before do",
    "crash in do",
]
FATES: tuple[Fate, ...] = (
    "done",
    "failed before",
    "failed half",
    "failed after",
    "crash before undo",
    "crash before do",
    "crash in do",
)
# What a do is, by its fate: $1 is the file (or marker), $2 what it shall say.
WRITE = {
    "done": 'printf %s "$2" >"$1"',
    "failed before": "exit 1",
    "failed half": 'printf half >"$1"; exit 1',
    "failed after": 'printf %s "$2" >"$1"; exit 1',
    "crash in do": 'printf half >"$1"; kill -9 $$',
}
REMOVE = {
    "done": 'rm -f "$1"',
    "failed before": "exit 1",
    "failed half": 'rm -f "$1"; exit 1',
    "failed after": 'rm -f "$1"; exit 1',
    "crash in do": 'rm -f "$1"; kill -9 $$',
}


class World:
    """A few files, a proxy's marker, and a state directory, all in one folder."""

    def __init__(self, root: Path, texts: dict[str, str | None], live: str) -> None:
        self.root = root
        self.state = State(root / "state")
        self.state.prepare()
        self.files = root / "files"
        self.files.mkdir()
        for name, text in texts.items():
            if text is not None:
                (self.files / name).write_text(text)
        self.marker = root / "live"
        create_marker(self.marker, live)
        self.copies = 0

    def seen(self) -> dict[str, str]:
        """Everything that a release can change."""
        return {
            str(each.relative_to(self.root)): each.read_text()
            for folder in (self.files, self.marker)
            for each in folder.iterdir()
        }

    def change(self, kind: Kind, name: str, text: str, fate: Fate) -> Change:
        """A change of what is there now; its undo names a copy, or takes away what was not there."""
        if kind == "switch":
            return self._switch(fate)
        path = self.files / name
        self.copies += 1
        copy = self.root / f"copy{self.copies}"
        if path.exists():
            copy.write_text(path.read_text())
            undo = line("cp", str(copy), str(path))
        else:
            undo = line("rm", "-f", str(path))
        script = (WRITE if kind == "write" else REMOVE).get(fate, "true")
        return Change(kind, f"{name}\n{fate}", ("sh", "-c", script, "sh", str(path), text), (undo,), 60.0)

    def _switch(self, fate: Fate) -> Change:
        """The real switch of nginx, from whatever is live now."""
        now = next(each for each in COLORS if (self.marker / each).exists())
        words, back = flip(self.marker, other(now)), line(*flip(self.marker, now))
        if fate == "failed before":
            words = ("false",)
        elif fate in {"failed half", "failed after"}:
            words = ("sh", "-c", '"$@"; exit 1', "sh", *words)
        elif fate == "crash in do":
            words = ("sh", "-c", '"$@"; kill -9 $$', "sh", *words)
        return Change("switch", f"{now} -> {other(now)}", words, (back,), 60.0)


@contextmanager
def worlds(texts: dict[str, str | None], live: str) -> Iterator[World]:
    """A world, taken away when its guard has gone."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), texts, live)
        yield world
        guard = int((world.state.root / "guard.pid").read_text().split()[0])
        until(lambda: not lives(guard), "the guard goes")


def release(world: World, plan: list[tuple[Kind, str, str, Fate]]) -> bool:
    """Make the changes until one fails or the session crashes; whether it crashed."""
    changes: list[Change] = []
    world.state.begin(ID, MAX_S)
    for kind, name, text, fate in plan:
        changes.append(world.change(kind, name, text, fate))
        if fate == "crash before undo":
            write_atomically(world.state.root / "undo.new", undo_script(changes))
            return True
        if fate == "crash before do":
            write_atomically(world.state.root / "undo.sh", undo_script(changes))
            return True
        done = world.state.step(ID, changes, MAX_S)
        assert done.ok is (fate == "done"), done
        if fate == "crash in do":
            return True
        if not done.ok:
            return False
    return False


def by_session(world: World, alive: int) -> None:
    """The session itself reverts, and ends."""
    assert did_revert(world.state.revert(ID), ID)
    close_lock(alive)


def by_guard(world: World, alive: int) -> None:
    """The session is gone; its guard finds out by itself."""
    close_lock(alive)
    until(lambda: world.state.open_release() is None, "the guard reverts")


def by_all(world: World, alive: int) -> None:
    """The guard, and two more at the same time."""
    close_lock(alive)
    argv = ("sh", str(world.state.root / "revert.sh"), str(world.state.root), ID)
    both = [subprocess.Popen(argv, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [each.wait() for each in both] == [0, 0]


def by_the_second_try(world: World, alive: int) -> None:
    """The first revert dies after its undo, before it could close."""
    subprocess.run(("sh", "-eu", str(world.state.root / "undo.sh")), check=True)
    by_session(world, alive)


def by_a_broken_try(world: World, alive: int) -> None:
    """The first revert dies after each of its lines, one after the other."""
    lines = (world.state.root / "undo.sh").read_text().splitlines(keepends=True)
    for number in range(len(lines)):
        with suppress(subprocess.CalledProcessError):
            subprocess.run(("sh", "-eu", "-c", "".join(lines[:number])), check=True)
    by_session(world, alive)


WAYS: tuple[Callable[[World, int], None], ...] = (
    by_session,
    by_guard,
    by_all,
    by_the_second_try,
    by_a_broken_try,
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
ROWS = st.tuples(
    st.sampled_from(("write", "remove", "switch")), st.sampled_from(FILES), TEXTS, st.sampled_from(FATES)
)


@LESS
@given(
    texts=st.fixed_dictionaries({name: st.none() | TEXTS for name in FILES}),
    live=st.sampled_from(COLORS),
    good=st.lists(ROWS, max_size=3),
    last=ROWS,
    way=st.sampled_from(WAYS),
)
def test_a_revert_restores_what_was_there(
    texts: dict[str, str | None],
    live: str,
    good: list[tuple[Kind, str, str, Fate]],
    last: tuple[Kind, str, str, Fate],
    way: Callable[[World, int], None],
) -> None:
    """Whatever was changed, failed or crashed, and whoever reverts how often: all is as before, and closed."""
    with worlds(texts, live) as world:
        before = world.seen()
        alive = world.state.acquire({"who": "ana"})
        release(world, [*((kind, name, text, "done") for kind, name, text, _ in good), last])
        way(world, alive)
        assert world.seen() == before
        assert world.state.open_release() is None
        assert (world.state.root / f"closed.{ID}").exists()
        subprocess.run(("sh", "-eu", str(world.state.root / "undo.sh")), check=True)
        assert world.seen() == before


@settings(LESS, max_examples=15)
@given(
    live=st.sampled_from(COLORS),
    rows=st.lists(ROWS, min_size=1, max_size=3),
)
def test_a_commit_keeps_what_was_done(live: str, rows: list[tuple[Kind, str, str, Fate]]) -> None:
    """After the commit nobody reverts anything: not the guard, not a person, and not the next session."""
    with worlds(dict.fromkeys(FILES, "old"), live) as world:
        alive = world.state.acquire({"who": "ana"})
        release(world, [(kind, name, text, "done") for kind, name, text, _ in rows])
        after = world.seen()
        assert world.state.close(ID)
        close_lock(alive)
        assert world.state.revert(ID).ok
        with world.state.locked({"who": "ben"}):
            world.state.begin("another", MAX_S)
            assert world.state.revert("another").ok
        assert world.seen() == after

"""The shell lines that put containers back, on a mock engine: whatever dies where, what ran before runs again."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from cutover.core.change import Change
from cutover.system import process
from tests.crash.place import lives, until
from tests.crash.world import SERVICES, World

ID = "20250904T021000-7"
MAX_S = 600.0
TRIES = 12
COLORS = ("blue", "green")
LESS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=(Phase.explicit, Phase.generate),  # to shrink takes minutes, for each example takes seconds
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Version 1 on blue, which is live."""
    made = World.at(tmp_path, "blue")
    made.put("blue", "api", "1", "running")
    return made


def ensured(world: World) -> process.CompletedCommand:
    """Run `ensure-running.sh` for blue's api, as the undo of a switch does."""
    script, file = str(world.state.root / "ensure-running.sh"), str(world.file("blue", "1"))
    compose = ("docker", "compose", "--project-name", "recall_blue", "--file", file)
    with world.on_path():
        return process.run(
            ("sh", script, "recall_blue", "api", *compose, "up", "--wait", "api"), deadline_s=60
        )


def test_an_old_color_that_is_well_is_left_alone(world: World) -> None:
    """Nothing is started, and nothing is said."""
    done = ensured(world)
    assert (done.code, done.out) == (0, "")


def test_the_traffic_goes_back_to_an_old_color_that_runs_unhealthy(world: World) -> None:
    """Their shared database is down: the way back is as before, it is taken, and that is said."""
    world.sicken("1")
    done = ensured(world)
    assert done.code == 0, done
    assert done.out == "note: api of recall_blue runs but is not healthy, as before\n"


@pytest.mark.parametrize(("sick", "code"), [((), 0), (("1",), 1)], ids=["well", "sick"])
def test_an_old_color_that_was_stopped_must_come_up(tmp_path: Path, sick: tuple[str, ...], code: int) -> None:
    """The traffic goes back to what had to be started only once it is healthy."""
    world = World.at(tmp_path, "blue")
    world.put("blue", "api", "1", "exited")
    world.sicken(*sick)
    assert ensured(world).code == code


THERE = st.none() | st.tuples(st.sampled_from(("1", "2")), st.sampled_from(("running", "exited")))
ROWS = st.lists(
    st.one_of(
        st.tuples(st.just("deploy"), st.sampled_from(COLORS), st.sampled_from(("2", "3"))),
        st.tuples(st.just("rest"), st.sampled_from(COLORS), st.just("")),
        st.just(("switch", "", "")),
    ),
    min_size=1,
    max_size=3,
)


def change(world: World, row: tuple[str, str, str]) -> Change | None:
    """The real change that *row* names, of what is there now."""
    kind, color, version = row
    if kind == "deploy":
        return world.deploy(color, version)
    return world.rest(color) if kind == "rest" else world.switch()


@LESS
@given(
    there=st.fixed_dictionaries(dict.fromkeys(COLORS, THERE)),
    live=st.sampled_from(COLORS),
    sick=st.sets(st.sampled_from(("1", "2", "3"))),
    rows=ROWS,
    deaths=st.sets(st.integers(1, 40), max_size=4),
)
@example(  # the undo dies while it stops the old container, the new one is gone already
    there={"blue": ("1", "running"), "green": None},
    live="blue",
    sick=set(),
    rows=[("deploy", "blue", "2")],
    deaths={1, 6},
)
def test_what_ran_before_runs_again(
    there: dict[str, tuple[str, str] | None],
    live: str,
    sick: set[str],
    rows: list[tuple[str, str, str]],
    deaths: set[int],
) -> None:
    """Whatever was deployed, stopped or switched, and whoever dies in it or in its undo: it ends as it began."""
    with tempfile.TemporaryDirectory() as folder:
        world = World.at(Path(folder), live)
        for color, each in there.items():
            for service in SERVICES if each else ():
                world.put(color, service, *each)  # type: ignore[misc]
        world.sicken(*sick)
        before = world.seen()
        with world.on_path():
            alive = world.state.acquire({"who": "ana"})
            world.state.begin(ID, MAX_S)
            _release(world, rows, deaths)
            _revert(world)
            assert world.seen() == before, (world.state.root / "undo.sh").read_text()
            _by_hand(world)
            os.close(alive)
            guard = int((world.state.root / "guard.pid").read_text().split()[0])
            until(lambda: not lives(guard), "the guard goes")
        assert world.seen() == before


def _release(world: World, rows: list[tuple[str, str, str]], deaths: set[int]) -> None:
    """Make the changes until one fails."""
    engine = world.engine
    engine.memory["deaths"] = sorted(deaths)
    engine.save()
    changes: list[Change] = []
    for row in rows:
        made = change(world, row)
        if made is None:
            continue
        changes.append(made)
        if not world.state.step(ID, changes, MAX_S).ok:
            return


def _revert(world: World) -> None:
    """Try until it is done, as the guard does."""
    tries = 0
    while not world.state.revert(ID).ok:
        tries += 1
        assert tries < TRIES, "the undo never gets done"


def _by_hand(world: World) -> None:
    """The undo once more, by a person who is not killed in it."""
    engine = world.engine
    engine.memory["deaths"] = []
    engine.save()
    script = str(world.state.root / "undo.sh")
    assert subprocess.run(("sh", "-eu", script), check=False, env=process.clean_environment()).returncode == 0

"""Where a rollback goes: to what users had before, never forward; nothing here needs an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cutover.core.errors import ConfigError
from cutover.record import Record
from cutover.state import State
from cutover.way_back import (
    AlreadyRolledBack,
    before,
    going_back,
    keep,
    left_live,
    lived,
    on_top,
    released,
    settled,
)


def made(number: int, color: str, *, proven: bool = True) -> Record:
    """Release *number* on *color*."""
    return Record(
        color, f"sha-{number}", f"sha256:{number}", f"hash-{number}-{color}", f"container-{number}",
        f"{number}.yml", proven=proven, by="ana", at="2025-09-04T02:10:00.000Z",
    )  # fmt: skip


V1, V2, V3 = made(1, "blue"), made(2, "green"), made(3, "blue")
ADOPTED, LEFT, STAGED = made(0, "blue", proven=False), made(9, "green", proven=False), made(8, "blue")
IN_PLACE = made(1, "green")


@pytest.mark.parametrize(
    ("rows", "running", "to"),
    [
        ([V1, V2], V2, V1),
        ([V1, V2, V3], V3, V2),
        ([V1, V2], replace(V2, container="put back since"), V1),
        ([V1, V2, V1, V3], V3, V1),  # rolled back from V2, then V3
        ([V1, V2], LEFT, V2),  # by --keep-on-failure, or by hand: never committed
        ([V1, LEFT, V3], V3, V1),  # not to what was left unproven
        ([ADOPTED, V2], V2, ADOPTED),  # started by a person, and all that users had
        ([V1, ADOPTED, V2], V2, V1),
    ],
)
def test_it_goes_to_the_last_proven_release_that_users_had_before(
    rows: list[Record], running: Record, to: Record
) -> None:
    """Older than what runs now, proven where there is one, and not what was only staged on the idle color."""
    assert before(rows, running) == to


@pytest.mark.parametrize("running", [V1, replace(V1, container="another")])
def test_a_second_rollback_changes_nothing(running: Record) -> None:
    """It says that it was rolled back already, from what, and how to go to another one."""
    with pytest.raises(
        AlreadyRolledBack, match=r"already rolled back: sha-1 runs on blue again.*sha-2 was live.*--to-tag"
    ):
        before([V1, V2], running)


@pytest.mark.parametrize(
    ("rows", "running", "to_deploy"),
    [
        ([], V1, False),
        ([V1], V1, False),
        ([ADOPTED, V2], V2, True),  # a tag that was never proven is not deployed
        (
            [V1, replace(V1, config_hash="other")],
            replace(V1, config_hash="other"),
            True,
        ),  # the same tag again
    ],
)
def test_with_nothing_before_a_person_says_which(
    rows: list[Record], running: Record, to_deploy: bool
) -> None:
    """One line that names what runs and the option."""
    with pytest.raises(ConfigError, match=f"no other release than {running.tag} .* --to-tag"):
        before(rows, running, to_deploy=to_deploy)


def test_each_release_is_kept_above_what_it_replaced() -> None:
    """Also what a person had started, and what a rollback went back to, is below the next release."""
    rows = released(released([], ADOPTED, V1), V1, V2)
    assert rows == [ADOPTED, V1, V2]
    assert released(rows, V1, V3) == [ADOPTED, V1, V2, V1, V3]  # rolled back to V1 by a flip, then V3
    assert released([V1], None, V1) == [V1]
    assert on_top([V1], V2) == on_top([V1, V2], V2) == [V1, V2]


def test_what_a_rollback_deploys_stays_below_what_it_went_back_from() -> None:
    """So that a second one, whenever it comes, does not go forward to the bad release."""
    going = going_back([V1, V2], V2, "sha-1")
    assert before(going, V2) == V1  # its session was refused, or has died: the next one tries the same
    rows = released(going, V2, IN_PLACE)
    assert rows == [V1, IN_PLACE, V2]
    for running in (IN_PLACE, replace(IN_PLACE, image="sha256:moved", config_hash="other env file")):
        with pytest.raises(AlreadyRolledBack):
            before(
                going if running.image != IN_PLACE.image else rows, running
            )  # left unproven: known by its tag
    assert released(rows, IN_PLACE, V3) == [V1, IN_PLACE, V2, IN_PLACE, V3]


def test_what_was_expected_and_never_came_is_forgotten() -> None:
    """A refused rollback leaves nothing behind that a later release could be taken for."""
    going = going_back([V1, V2], V2, "sha-7")
    assert settled(going) == [V1, V2]
    assert released(going, V2, V3) == [V1, V2, V3]
    assert [row.tag for row in going_back(going, V2, "sha-1")] == ["sha-1", "sha-1", "sha-2"]


FLIP, IN_ITS_PLACE = {"event": "rolled back", "color": "blue"}, {"event": "rolled back", "tag": "sha-1"}
RELEASED, TAKEN = {"event": "released", "color": "blue"}, {"event": "reverted"}


@pytest.mark.parametrize(
    ("history", "rows", "color"),
    [
        ([RELEASED], [V1, V2], "green"),  # blue was but staged
        ([RELEASED, FLIP], [V1, V2], "blue"),
        ([RELEASED, FLIP, TAKEN], [V1, V2], "blue"),
        ([FLIP, RELEASED], [V1, V2], "green"),
        ([RELEASED, IN_ITS_PLACE], [IN_PLACE, V2], "green"),
        ([], [], ""),
    ],
)
def test_what_we_left_live_is_known(history: list[dict[str, str]], rows: list[Record], color: str) -> None:
    """Whatever a person did with the traffic since: by the last flip back, else by the last release that users had."""
    assert left_live(history, rows) == color


def test_it_is_written_down(tmp_path: Path) -> None:
    """What users had outlives the session; a damaged file is named."""
    state = State(tmp_path / "state")
    state.prepare()
    assert lived(state) == []
    keep(state, [V1, V2])
    assert lived(state) == [V1, V2]
    (state.root / "live-history.json").write_text("[{")
    with pytest.raises(ConfigError, match=r"live-history\.json is damaged"):
        lived(state)

"""Where a rollback goes: to what users had before, never forward; nothing here needs an engine."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest

from cutover.core.change import Change
from cutover.core.config_schema import Platform
from cutover.core.errors import (
    ConfigError,
    CutoverError,
    EngineUnavailable,
    Failed,
    Inconclusive,
    Interrupted,
    Locked,
    OperatorNeeded,
)
from cutover.core.verdict import Outcome, Verdict, no, not_asked, yes
from cutover.proxy.base import Live, driver
from cutover.release import gate_run, rollback, transaction, verify
from cutover.release.colors import BeforeRelease, Colors
from cutover.release.history import Record, Unrecorded
from cutover.release.rollback import (
    AlreadyRolledBack,
    RollbackPlan,
    RollbackResult,
    after_release,
    before_deploy,
    last_left_live,
    live_history,
    on_top,
    plan_rollback,
    release_before,
    switch_and_revert,
    wait_until_free,
    without_expected,
    write_live_history,
)
from cutover.release.state import State
from cutover.release.transaction import Transaction
from cutover.system.container import Container
from tests.helpers.containers import STARTING, UNHEALTHY, container
from tests.helpers.proxy_drivers import proxy_settings


def made(number: int, color: str, *, verified: bool = True) -> Record:
    """Release *number* on *color*."""
    return Record(
        color, f"sha-{number}", f"sha256:{number}", f"hash-{number}-{color}", f"container-{number}",
        f"{number}.yml", verified=verified, by="ana", at="2025-09-04T02:10:00.000Z",
    )  # fmt: skip


V1, V2, V3 = made(1, "blue"), made(2, "green"), made(3, "blue")
ADOPTED, LEFT, STAGED = made(0, "blue", verified=False), made(9, "green", verified=False), made(8, "blue")
IN_PLACE = made(1, "green")


@pytest.mark.parametrize(
    ("rows", "running", "to"),
    [
        ([V1, V2], V2, V1),
        ([V1, V2, V3], V3, V2),
        ([V1, V2], replace(V2, container="put back since"), V1),
        ([V1, V2, V1, V3], V3, V1),  # rolled back from V2, then V3
        ([V1, V2], LEFT, V2),  # by --keep-on-failure, or by hand: never committed
        ([V1, LEFT, V3], V3, V1),  # not to what was left unverified
        ([ADOPTED, V2], V2, ADOPTED),  # started by a person, and all that users had
        ([V1, ADOPTED, V2], V2, V1),
    ],
)
def test_it_goes_to_the_last_proven_release_that_users_had_before(
    rows: list[Record], running: Record, to: Record
) -> None:
    """Older than what runs now, verified where there is one, and not what was only staged on the idle color."""
    assert release_before(rows, running) == to


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ({}, "flips to it"),
        ({"Health": UNHEALTHY}, "deploys sha-1 in place on green"),
        ({"Health": STARTING}, "deploys sha-1 in place on green"),
        ({"Status": "paused"}, "deploys sha-1 in place on green"),
        ({"Status": "exited"}, "starts it and flips"),
        (None, "starts it and flips"),
    ],
)
def test_the_way_back_is_by_the_state_of_the_old_color(
    state: State, monkeypatch: pytest.MonkeyPatch, there: dict[str, Any] | None, says: str
) -> None:
    """No start leads back to a container that is there and not well; its release replaces what is live."""
    write_live_history(state, [V1, V2])
    for row in (V1, V2):
        state.keep_record(row)
    new = replace(container(id=V2.container), image=V2.image)
    old = None if there is None else replace(container(id=V1.container, **there), image=V1.image)
    monkeypatch.setattr(rollback, "main_container", lambda _, color: new if color == "green" else old)
    monkeypatch.setattr(rollback, "_can_start", lambda *_: True)
    settings = proxy_settings(driver="nginx", url="http://127.0.0.1:1")
    plan = plan_rollback(
        state,
        Colors(settings, {}, driver(settings, {"blue": 8000, "green": 8001}), Live("green", "asked")),
    )
    assert plan.text == says
    assert plan.color == ("green" if plan.how == "deploy" else "blue")


@pytest.mark.parametrize("how", get_args(get_type_hints(RollbackPlan)["how"]))
def test_each_way_back_has_words(how: Any) -> None:
    """A way without words would be told as nothing."""
    assert RollbackPlan(how, V1, "green").text


@pytest.mark.parametrize("running", [V1, replace(V1, container="another")])
def test_a_second_rollback_changes_nothing(running: Record) -> None:
    """It says that it was rolled back already, from what, and how to go to another one."""
    with pytest.raises(
        AlreadyRolledBack, match=r"already rolled back: sha-1 runs on blue again.*sha-2 was live.*--to-tag"
    ):
        release_before([V1, V2], running)


@pytest.mark.parametrize(
    ("rows", "running", "to_deploy"),
    [
        ([], V1, False),
        ([V1], V1, False),
        ([ADOPTED, V2], V2, True),  # a tag that was never verified is not deployed
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
        release_before(rows, running, to_deploy=to_deploy)


def test_each_release_is_kept_above_what_it_replaced() -> None:
    """Also what a person had started, and what a rollback went back to, is below the next release."""
    rows = after_release(after_release([], ADOPTED, V1), V1, V2)
    assert rows == [ADOPTED, V1, V2]
    assert after_release(rows, V1, V3) == [ADOPTED, V1, V2, V1, V3]  # rolled back to V1 by a flip, then V3
    assert after_release([V1], None, V1) == [V1]
    assert on_top([V1], V2) == on_top([V1, V2], V2) == [V1, V2]


def test_what_a_rollback_deploys_stays_below_what_it_went_back_from() -> None:
    """So that a second one, whenever it comes, does not go forward to the bad release."""
    going = before_deploy([V1, V2], V2, "sha-1")
    assert (
        release_before(going, V2) == V1
    )  # its session was refused, or has died: the next one tries the same
    rows = after_release(going, V2, IN_PLACE)
    assert rows == [V1, IN_PLACE, V2]
    for running in (IN_PLACE, replace(IN_PLACE, image="sha256:moved", config_hash="other env file")):
        with pytest.raises(AlreadyRolledBack):
            release_before(
                going if running.image != IN_PLACE.image else rows, running
            )  # left unverified: known by its tag
    assert after_release(rows, IN_PLACE, V3) == [V1, IN_PLACE, V2, IN_PLACE, V3]


def test_what_was_expected_and_never_came_is_forgotten() -> None:
    """A refused rollback leaves nothing behind that a later release could be taken for."""
    going = before_deploy([V1, V2], V2, "sha-7")
    assert without_expected(going) == [V1, V2]
    assert after_release(going, V2, V3) == [V1, V2, V3]
    assert [row.tag for row in before_deploy(going, V2, "sha-1")] == ["sha-1", "sha-1", "sha-2"]


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
    assert last_left_live(history, rows) == color


def test_it_is_written_down(tmp_path: Path) -> None:
    """What users had outlives the session; a damaged file is named."""
    state = State(tmp_path / "state")
    state.prepare()
    assert live_history(state) == []
    write_live_history(state, [V1, V2])
    assert live_history(state) == [V1, V2]
    (state.root / "live-history.json").write_text("[{")
    with pytest.raises(ConfigError, match=r"live-history\.json is damaged"):
        live_history(state)


def test_a_rollback_waits_at_most_as_long_as_a_release_may_last(
    tmp_path: Path,
) -> None:
    """It says once whom it waits for, and goes on as soon as it can."""
    answers: Iterator[RollbackResult | None] = iter([None, None, RollbackResult("done")])
    said: list[str] = []
    calls = 0

    def go_back() -> RollbackResult:
        nonlocal calls
        calls += 1
        done = next(answers, None)
        if done is None:
            raise Locked("ana is releasing")
        return done

    state = State(tmp_path)
    assert wait_until_free(state, 100.0, go_back, said.append, clock=lambda: 0.0).sentence == "done"
    assert calls == 3
    assert [each.partition(":")[0] for each in said] == ["waiting"]
    times = iter([0.0, 50.0, 101.0])
    with pytest.raises(Locked):
        wait_until_free(state, 100.0, go_back, said.append, clock=lambda: next(times))


def opened(root: Path, undo: str = "true") -> Transaction:
    """A release that is open, whose undo is *undo*; blue was live."""
    state = State(root / "state")
    state.prepare()
    (state.root / "open").write_text("7\n")
    changes = [Change("switch", "to green", ("true",), (undo,), 10.0)]
    before = BeforeRelease("blue", "sha-1")
    return Transaction(state, 60.0, "a switch to idle", before, "green", id="7", changes=changes)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session tries once to revert."""
    monkeypatch.setattr(transaction, "REVERT_PATIENCE_S", 0.0)


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(
    ("trouble", "undo", "live", "raised", "said"),
    [
        (None, "exit 1", "green", OperatorNeeded, r"could not be reverted: .*run: sh .*revert\.sh"),
        (
            Failed("proof: 3 failed"),
            "exit 1",
            "green",
            OperatorNeeded,
            r"proof: 3 failed; .* could not be reverted",
        ),
        (
            Failed("proof: 3 failed"),
            "true",
            "green",
            OperatorNeeded,
            "traffic goes to green: .*run: cutover recover",
        ),
        (Failed("proof: 3 failed"), "true", "blue", Failed, "proof: 3 failed; .*blue serves, as before"),
        (Inconclusive("silence"), "true", "blue", Inconclusive, "silence; .*blue serves, as before"),
        (ConfigError("no release"), "true", "blue", Failed, "no release; .*blue serves, as before"),
    ],
)
def test_a_rehearsal_that_cannot_be_reverted_needs_an_operator(
    tmp_path: Path,
    trouble: CutoverError | None,
    undo: str,
    live: str,
    raised: type[CutoverError],
    said: str,
) -> None:
    """Whatever the switch itself ended with: 11 with the command to run, else what it was, and what serves."""

    def switch() -> None:
        if trouble:
            raise trouble

    with pytest.raises(raised, match=said) as caught:
        switch_and_revert(opened(tmp_path, undo), switch, lambda: Live(live, "asked"))
    assert type(caught.value) is raised


def test_a_rehearsal_that_worked_says_how_long(tmp_path: Path) -> None:
    """The release is closed, and nothing was changed where the switch was refused beforehand."""
    tx = opened(tmp_path)
    assert switch_and_revert(tx, lambda: None, lambda: Live("blue", "asked")) > 0
    assert tx.state.open_release() is None

    def refuse() -> None:
        raise OperatorNeeded("refused")

    unopened = Transaction(tx.state, 60.0, "a switch to idle", BeforeRelease("blue", "sha-1"), "green")
    with pytest.raises(OperatorNeeded, match="refused"):
        switch_and_revert(unopened, refuse, lambda: Live("blue", "asked"))


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------
def interrupt_when(there: Path) -> None:
    """Send SIGINT to this process, as a terminal does, as soon as a file is there."""

    def wait() -> None:
        while not there.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def test_no_ctrl_c_stops_a_revert(tmp_path: Path) -> None:
    """Half a revert would wait for the guard, that of a held release until its deadline."""
    begun = tmp_path / "begun"
    tx = opened(tmp_path, f"touch {begun}; sleep 0.5")
    interrupt_when(begun)
    assert tx.revert().ok
    assert tx.state.open_release() is None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


CHILD = """
import signal, sys, time
def end(*_): time.sleep(0.5); sys.exit(7)
signal.signal(signal.SIGINT, end)
open(sys.argv[1], "w").close()
time.sleep(30)
"""


def test_a_session_that_a_command_runs_ends_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the signal and is waited for: it has something to revert."""
    begun, config = tmp_path / "begun", type("Settings", (), {"source": "cutover.toml"})()
    argv = (sys.executable, "-c", CHILD, str(begun))
    monkeypatch.setattr(gate_run, "pytest_argv", lambda *_: argv)
    interrupt_when(begun)
    assert gate_run.pytest_child(config) == 7


@pytest.mark.usefixtures("no_patience")
@pytest.mark.parametrize(
    ("trouble", "undo", "raised", "said"),
    [
        (
            KeyboardInterrupt(),
            "true",
            Interrupted,
            "interrupted; it was reverted: blue serves sha-1, as before",
        ),
        (KeyboardInterrupt(), "exit 1", OperatorNeeded, r"interrupted; nor could it be reverted: .*run: sh "),
        (ZeroDivisionError("x"), "true", Failed, r"ZeroDivisionError\('x'\); it was reverted"),
        (Inconclusive("silence"), "true", Inconclusive, "silence; it was reverted"),
    ],
)
def test_whatever_ends_a_rollback_reverts_it(
    trouble: BaseException,
    undo: str,
    raised: type[CutoverError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A person who ends it, too: 2 says that it was reverted and verified."""
    monkeypatch.setattr(rollback, "require_reverted", lambda *_: "blue serves sha-1, as before")
    settings: Any = None
    with (
        pytest.raises(raised, match=said) as caught,
        rollback._reverted_if_it_fails(opened(tmp_path, undo), settings),
    ):
        raise trouble
    assert type(caught.value) is raised


SILENT = EngineUnavailable("the Docker engine does not answer: timed out")


@pytest.fixture
def state(tmp_path: Path) -> State:
    """A state directory without a release."""
    made = State(tmp_path / "state")
    made.prepare()
    return made


@pytest.mark.parametrize("fronts", [{}, {"web-1": "http://10.0.0.11", "web-2": "http://10.0.0.12"}])
def test_a_node_that_is_away_has_a_way_out(state: State, fronts: dict[str, str]) -> None:
    """Users of the other nodes may be on a bad release: a rollback names how to go on without it."""
    settings = proxy_settings(driver="nginx", url="http://127.0.0.1:1")
    settings = settings.model_copy(update={"platform": Platform(fronts=fronts)})
    colors = Colors(settings, {}, None, Live(None, "web-2: no answer"))
    with pytest.raises(ConfigError, match="cannot be rolled back: web-2: no answer") as refused:
        plan_rollback(state, colors)
    assert str(refused.value).endswith("take it out of [platform.fronts]") is bool(fronts)


@pytest.mark.parametrize("how", ["", "restored in {:.1f} s"], ids=["flip", "restore"])
@pytest.mark.parametrize(
    ("gate", "found", "said"),
    [
        (yes("smoke", "9 passed"), container(), "9 passed"),
        (yes("smoke", "9 passed"), None, "9 passed"),
        (yes("smoke", "9 passed"), SILENT, f"9 passed; its container was not asked: {SILENT}"),
        (not_asked("smoke", "no engine"), SILENT, f"no engine; its container was not asked: {SILENT}"),
        (no("smoke", "503", failed={"ready": "503"}), SILENT, f"503; its container was not asked: {SILENT}"),
    ],
    ids=["yes", "gone", "silent after the gate", "silent", "no"],
)
def test_what_is_committed_stays_although_the_engine_is_silent(
    state: State, monkeypatch: pytest.MonkeyPatch, how: str, gate: Verdict, found: object, said: str
) -> None:
    """The rollback ended with its commit: that a container could not be asked is a note, and it is not verified."""

    def ask(*_: object) -> object:
        if isinstance(found, EngineUnavailable):
            raise found
        return found

    monkeypatch.setattr(rollback, "main_container", ask)
    monkeypatch.setattr(verify, "run_gate", lambda *_: gate)
    monkeypatch.setattr(verify, "settle", lambda judge: judge())
    settings: Any = SimpleNamespace(project="recall")
    done = rollback._verify_flip(settings, state, V1, 0.1, how)
    assert done.sentence.endswith(f"; {said}")
    assert bool(done.trouble) is (gate.outcome is Outcome.NO)
    assert bool(state.records("blue")) is isinstance(found, Container)
    assert (str(SILENT) in str(done.facts["notes"])) is (found is SILENT)


def test_a_gate_that_is_interrupted_after_the_flip_leaves_what_users_have(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flip is committed: `interrupted` alone would be read as reverted."""

    def interrupted(*_: object) -> Verdict:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "run_gate", interrupted)
    monkeypatch.setattr(rollback, "main_container", lambda *_: container())
    settings: Any = SimpleNamespace(project="recall")
    done = rollback._verify_flip(settings, state, V1, 0.04)
    said = "its gate was interrupted, so whether it passes is unknown"
    assert done.sentence == f"recall runs {V1.tag} on blue again (flipped in 40 ms); {said}"
    assert (done.code, done.trouble, state.records("blue")) == (0, None, [])


@pytest.mark.parametrize(
    ("events", "left", "said"),
    [
        (("reverted",), False, "blue serves sha-1, as before"),
        ((), False, "blue serves sha-1, as before"),
        (("released",), False, "release 7 was kept in that moment, and nothing was reverted"),
        (("staged",), False, "release 7 was kept in that moment"),
        (("kept unverified",), False, "release 7 was kept in that moment"),
        ((), True, "release 7 was kept in that moment"),
    ],
)
def test_a_release_that_ends_while_it_is_to_be_reverted(
    state: State, monkeypatch: pytest.MonkeyPatch, events: tuple[str, ...], left: bool, said: str
) -> None:
    """Its guard or its session has reverted it, which is what was asked for; or its session has kept it."""
    monkeypatch.setattr(rollback, "require_reverted", lambda *_: "blue serves sha-1, as before")
    settings: Any = None
    for event in ("open", *events):
        state.journal(event, release="7")
    if left:
        assert state.leave(Unrecorded("7", "released", {}))
    if events == ("reverted",) or not (events or left):
        assert rollback.revert_open_release(settings, state, "7", "cutover rollback") == said
    else:
        with pytest.raises(Failed, match=said):
            rollback.revert_open_release(settings, state, "7", "cutover rollback")


@pytest.mark.parametrize(
    ("events", "closed", "said"),
    [
        (
            ("reverted",),
            True,
            "release 7 was reverted by ana before; nothing was changed: blue sha-1 runs, live",
        ),
        (("recovered",), True, "release 7 was recovered by ana before; nothing was changed"),
        ((), True, "release 7 is not open any more; nothing was changed: blue sha-1 runs, live"),
        (
            ("released",),
            True,
            Failed("release 7 was kept, and nothing was changed: `cutover rollback` without"),
        ),
        ((), False, ConfigError("no release 7 is open here; nothing was changed")),
    ],
)
@pytest.mark.parametrize("other", [None, "8"])
def test_a_named_release_that_is_not_open_is_left_as_it_is(
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    events: tuple[str, ...],
    closed: bool,
    said: str | Exception,
    other: str | None,
) -> None:
    """Nothing goes back by one more release, and no other release that is open now is reverted."""
    monkeypatch.setattr(rollback, "say_what_runs", lambda _settings: "blue sha-1 runs, live")
    settings: Any = None
    for event in ("open", *events) if closed else ():
        state.journal(event, release="7", who="ana")
    if closed:
        (state.root / "closed.7").touch()
    if other:
        (state.root / "open").write_text(f"{other}\n")
    if isinstance(said, str):
        assert rollback.roll_back(settings, state, "7").sentence.startswith(said)
    else:
        with pytest.raises(type(said), match=re.escape(str(said))):
            rollback.roll_back(settings, state, "7")
    assert state.open_release() == other


# --- the deploy of another tag -----------------------------------------------------------------------------------------
OLD, NEW, LOST = container(id="1" * 64), container(id="2" * 64), container(id="2" * 64, Status="exited")


@pytest.mark.parametrize(
    ("code", "after", "raised", "said"),
    [
        (1, ("blue", NEW), OperatorNeeded, "and blue runs sha-2, not verified; .*run: cutover recover"),
        (
            1,
            ("blue", LOST),
            OperatorNeeded,
            "and blue does not run: sha-2 is there, exited; .*run: cutover recover",
        ),
        (1, ("blue", None), OperatorNeeded, "and nothing is known to run on blue; .*run: cutover recover"),
        (10, (None, None), OperatorNeeded, "and what runs now could not be asked; .*run: cutover recover"),
        (1, ("blue", OLD), Failed, "sha-9 was not deployed: blue runs sha-2, as before; see reports/latest"),
        (10, ("blue", OLD), Inconclusive, "sha-9 was not deployed: blue runs sha-2, as before"),
        (2, ("blue", OLD), Interrupted, "sha-9 was not deployed: blue runs sha-2, as before"),
        (2, ("blue", NEW), OperatorNeeded, "sha-9 was interrupted, and blue runs sha-2, not verified"),
    ],
)
def test_a_deploy_that_did_not_pass_says_what_runs(
    code: int,
    after: Any,
    raised: type[CutoverError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That a tag runs is asked, not concluded from how its session ended."""
    seen, settings = iter([("blue", OLD), after]), type("Settings", (), {})()
    monkeypatch.setattr(rollback, "_runs_live", lambda _settings: next(seen))
    monkeypatch.setattr(rollback, "pytest_child", lambda *_: code)
    with pytest.raises(raised, match=said) as caught:
        rollback._deploy_tag(settings, State(tmp_path), "sha-9")
    assert type(caught.value) is raised

"""A release on several hosts: what is done next, and how it ends."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.core.result import INTERRUPTED, OK, Status
from cutover.core.verdict import Outcome
from cutover.release.hosts import (
    HostAction,
    HostBatch,
    HostFacts,
    HostPhase,
    HostsPlan,
    HostState,
    HostStep,
    chosen_hosts,
    config_name,
    host_facts,
    host_state,
    judge_end,
    next_action,
    plan_hosts,
    preflight_problems,
    require_approved,
    taken_by,
    way_to_revert,
)

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
STAGE, SWITCH, CONFIRM, REVERT = HostPhase.STAGE, HostPhase.SWITCH, HostPhase.CONFIRM, HostPhase.REVERT
ALL = ("web-1", "web-2", "web-3")
PLAN = HostsPlan("sha-2", (HostBatch(("web-1",), 60.0), HostBatch(("web-2", "web-3"), 30.0)), 600.0, 5.0)
LONG_S = 500.0


def steps(
    phase: HostPhase, *hosts: str, outcome: Outcome = YES, code: int | None = 0
) -> tuple[HostStep, ...]:
    """What *hosts* answered to a phase."""
    return tuple(HostStep(host, phase, outcome, f"it said {outcome}", code) for host in hosts)


STAGED = steps(STAGE, *ALL)
ALL_SWITCHED = (*STAGED, *steps(SWITCH, *ALL))


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ((), HostAction(STAGE, ALL)),
        (STAGED, HostAction(SWITCH, ("web-1",), 60.0)),
        ((*STAGED, *steps(SWITCH, "web-1")), HostAction(SWITCH, ("web-2", "web-3"), 30.0)),
        (ALL_SWITCHED, HostAction(CONFIRM, ALL)),
        ((*ALL_SWITCHED, *steps(CONFIRM, *ALL)), None),
        ((*ALL_SWITCHED, *steps(CONFIRM, *ALL), *steps(REVERT, *ALL)), None),
    ],
    ids=["stage", "first batch", "second batch", "confirm", "end", "end after a revert"],
)
def test_a_good_release_goes_batch_by_batch(done: tuple[HostStep, ...], expected: HostAction | None) -> None:
    """All are staged, then switched batch by batch, then confirmed."""
    assert next_action(PLAN, done, LONG_S) == expected


@pytest.mark.parametrize("outcome", [NO, UNKNOWN])
def test_one_bad_host_ends_everything_before_a_switch(outcome: Outcome) -> None:
    """Nobody is switched if one host is not good when it is staged."""
    done = (*steps(STAGE, "web-1", "web-3"), *steps(STAGE, "web-2", outcome=outcome))
    assert next_action(PLAN, done, LONG_S) is None


@pytest.mark.parametrize("outcome", [NO, UNKNOWN])
def test_switched_hosts_are_reverted_in_reverse_order(outcome: Outcome) -> None:
    """The host that is not good is among them: it is asked too, and an unknown one may hold the release."""
    done = (
        *STAGED,
        *steps(SWITCH, "web-1"),
        *steps(SWITCH, "web-2", outcome=outcome),
        *steps(SWITCH, "web-3", outcome=NOT_ASKED),
    )
    action = next_action(PLAN, done, LONG_S)
    assert action == HostAction(REVERT, ("web-3", "web-2", "web-1"), why=f"web-2: it said {outcome}")


def test_a_silent_host_is_reverted_last() -> None:
    """The others do not wait for it, because their users are served by the bad release."""
    done = (*STAGED, *steps(SWITCH, "web-1", "web-2"), *steps(SWITCH, "web-3", outcome=UNKNOWN, code=None))
    action = next_action(PLAN, done, LONG_S)
    assert action is not None
    assert action.hosts == ("web-2", "web-1", "web-3")


def test_one_database_is_migrated_before_the_other_hosts_are_staged() -> None:
    """The first host alone, then the others side by side; if its migration fails, nobody else is staged."""
    plan = replace(PLAN, migrate_on="first")
    assert next_action(plan, (), LONG_S) == HostAction(STAGE, ("web-1",))
    assert next_action(plan, steps(STAGE, "web-1"), LONG_S) == HostAction(STAGE, ("web-2", "web-3"))
    assert next_action(plan, STAGED, LONG_S) == HostAction(SWITCH, ("web-1",), 60.0)
    assert next_action(plan, steps(STAGE, "web-1", outcome=NO), LONG_S) is None


def test_a_confirmation_that_fails_reverts_all() -> None:
    """Hosts that have been confirmed already are reverted too, so that all serve one release."""
    done = (*ALL_SWITCHED, *steps(CONFIRM, "web-1", "web-3"), *steps(CONFIRM, "web-2", outcome=NO, code=1))
    action = next_action(PLAN, done, LONG_S)
    assert action is not None
    assert (action.phase, action.hosts) == (REVERT, ("web-3", "web-2", "web-1"))


def test_no_batch_begins_that_the_first_hold_does_not_outlast() -> None:
    """A host that reverts by itself while others are switched would split them."""
    done = (*STAGED, *steps(SWITCH, "web-1"))
    action = next_action(PLAN, done, 45.0)
    assert action is not None
    assert (action.phase, action.hosts) == (REVERT, ("web-1",))
    assert "the hold of the first host ends in 45 s" in action.why


def test_an_interrupted_session_reverts_what_was_switched() -> None:
    """Ctrl-C reverts; before the first switch there is nothing to revert."""
    assert next_action(PLAN, STAGED, LONG_S, interrupted=True) is None
    action = next_action(PLAN, (*STAGED, *steps(SWITCH, "web-1")), LONG_S, interrupted=True)
    assert action == HostAction(REVERT, ("web-1",), why="the session was interrupted")


OLD = HostState("blue", "sha-1", "green", "sha-2")
NEW = HostState("green", "sha-2", "blue", "sha-1")
HELD = HostState("green", "sha-2", "blue", "sha-1", "id-1", "sha-2")
SILENT = HostState(silent="no answer")
UNASKED = "its container could not be asked: no answer"
NO_ENGINE = HostState("green", idle="blue", runs=False, unasked=UNASKED)
BACK_UNASKED = HostState("blue", idle="green", runs=False, unasked=UNASKED)
EXITED = replace(OLD, runs=False)
BROKEN = replace(OLD, operator="blue does not pass on the new schema")


@pytest.mark.parametrize(
    ("now", "way"),
    [
        (OLD, "nothing"),
        (HELD, "roll back"),
        (NEW, "roll back"),
        (SILENT, "wait"),
        (HostState("green", "sha-2", busy="release id-1 is open"), "wait"),
        (HostState(), "roll back"),
        (EXITED, "nothing"),
        (BACK_UNASKED, "nothing"),
        (NO_ENGINE, "roll back"),
        (replace(HELD, runs=False), "roll back"),
        (
            HostState("green", "sha-2", busy="release id-1 is open", operator="the revert was given up"),
            "roll back",
        ),
    ],
)
def test_only_what_is_not_as_before_is_rolled_back(now: HostState, way: str) -> None:
    """`cutover rollback` on a host that is as before would go one release further back."""
    assert way_to_revert(OLD, now) == way


def test_a_status_is_read() -> None:
    """The JSON of `cutover status` says what is live, what is idle, what is held, and who is busy."""
    colors = {"blue": {"tag": "sha-1", "runs": True}, "green": {"tag": "sha-2", "runs": True}}
    facts = {"live": "green", "colors": colors, "open": "id-1", "hold": {"release": "id-1", "tag": "sha-2"}}
    assert host_state(facts) == HELD
    assert host_state({"live": "blue", "colors": colors, "open": "id-1"}).busy == "release id-1 is open"
    owner = {"who": "bo", "what": "sha-3 to green", "since": "now"}
    assert "bo is releasing sha-3" in host_state({"live": "blue", "colors": colors, "releasing": owner}).busy
    assert host_state({"live": None, "colors": {}, "needs_operator": "why"}).operator == "why"
    colors["blue"]["runs"] = False
    assert host_state({"live": "blue", "colors": colors}) == EXITED
    assert host_state({"live": "green", "colors": colors}) == NEW  # what is idle need not run
    silent = {each: {"tag": None, "asked": False, "runs": False, "state": UNASKED} for each in colors}
    assert host_state({"live": "green", "colors": silent}) == NO_ENGINE
    assert NO_ENGINE.text == UNASKED


def test_the_facts_of_a_host_are_read() -> None:
    """One answer says everything that a coordinator asks before; a host that gives none has a problem."""
    facts = {
        "version": "1.0",
        "config": "digest",
        "state": "/state",
        "live": "blue",
        "colors": {"blue": {"tag": "sha-1", "runs": True}},
    }
    found = host_facts("web-1", facts | {"lease": {"said": "bo is releasing sha-3 on several hosts"}}, "")
    assert found == HostFacts(
        "web-1",
        "1.0",
        "digest",
        "/state",
        "bo is releasing sha-3 on several hosts",
        HostState("blue", "sha-1"),
    )
    assert host_facts("web-1", None, "no answer") == HostFacts("web-1", problem="no answer")


GOOD = HostFacts("web-1", "1.0", "digest", "/state", state=OLD)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (GOOD, ""),
        (HostFacts("web-1", problem="no host of that name"), "no host of that name"),
        (HostFacts("web-1", "0.9", "digest", state=OLD), "pytest-cutover 0.9, here is 1.0"),
        (HostFacts("web-1", "1.0", "other", state=OLD), "its cutover.toml is another one"),
        (HostFacts("web-1", "1.0", "digest", state=HostState("blue", "sha-1", busy="release x is open")), "recover"),
        (HostFacts("web-1", "1.0", "digest", state=HostState("blue", "sha-1", operator="why")), "an operator"),
        (HostFacts("web-1", "1.0", "digest", state=HostState()), "what it serves is not known"),
        (HostFacts("web-1", "1.0", "digest", state=NO_ENGINE), f"{UNASKED}, so nothing could be reverted to"),
        (HostFacts("web-1", "1.0", "digest", state=EXITED), "traffic goes to blue, where sha-1 does not run, so nothing"),
    ],
)  # fmt: skip
def test_a_host_that_is_not_ready_is_refused(facts: HostFacts, said: str) -> None:
    """Each problem is one line that names its host."""
    problems = preflight_problems(PLAN, [facts], "1.0", "digest")
    assert len(problems) == bool(said)
    assert all(line.startswith("web-1: ") and said in line for line in problems)


@pytest.mark.parametrize(
    ("ssh_config", "config", "ssh", "named"),
    [
        (None, "", "ssh web-1", ""),
        (
            Path("/ci/my ssh"),
            "ops/shop.toml",
            "ssh -F '/ci/my ssh' web-1",
            "env CUTOVER_CONFIG=ops/shop.toml ",
        ),
    ],
)
def test_a_command_for_a_person_reaches_the_cutover_of_the_host(
    ssh_config: Path | None, config: str, ssh: str, named: str
) -> None:
    """As the coordinator runs it: with its ssh configuration, in the folder of the host, with the same file."""
    plan = replace(PLAN, path="/srv/the shop", ssh_config=ssh_config, config=config)
    there = "cd '/srv/the shop' && PATH=\"$PWD/.venv/bin:$PATH\" && export PATH && exec"
    status, recover = (
        f"{ssh} {shlex.quote(f'{there} {named}cutover {word}')}" for word in ("status", "recover")
    )
    ended = judge_end(
        plan, steps(STAGE, "web-1", outcome=NO, code=11), dict.fromkeys(ALL, OLD), dict.fromkeys(ALL, OLD)
    )
    assert ended.command == status
    states = (BROKEN, HostState(), EXITED, replace(OLD, busy="release 7 is open"))
    found = [HostFacts("web-1", "1.0", "digest", state=state) for state in states]
    told = preflight_problems(plan, found, "1.0", "digest")
    assert [line.partition("; run: ")[2] for line in told] == [status, status, status, recover]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("cutover.toml", ""),
        ("deploy/cutover.toml", ""),
        ("ops/shop.toml", "ops/shop.toml"),
        ("../shop.toml", "shop.toml"),
        ("../elsewhere/cutover.toml", ""),
    ],
)
def test_a_host_reads_the_file_of_the_same_name(tmp_path: Path, source: str, name: str) -> None:
    """A default one is found there; another one is named by its place below the folder."""
    here = tmp_path / "here"
    assert config_name((here / source).resolve(), here) == name


def test_a_host_reads_no_file_that_the_named_one_stands_behind(tmp_path: Path) -> None:
    """With `--cutover-config=deploy/cutover.toml` beside a cutover.toml a host would find the other one by itself."""
    (tmp_path / "deploy").mkdir()
    for source, alone in (("deploy/cutover.toml", ""), ("cutover.toml", "")):
        (tmp_path / source).touch()
        assert config_name((tmp_path / source).resolve(), tmp_path) == alone
    assert config_name((tmp_path / "deploy/cutover.toml").resolve(), tmp_path) == "deploy/cutover.toml"


def test_all_problems_are_told_at_once() -> None:
    """One line for each host that is not ready."""
    found = [GOOD, HostFacts("web-2", problem="no answer"), HostFacts("web-3", "0.9")]
    assert [line.partition(":")[0] for line in preflight_problems(PLAN, found, "1.0", "digest")] == [
        "web-2",
        "web-3",
        "web-3",
    ]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (GOOD, ""),
        (HostFacts("web-1", lease="bo is releasing sha-3 to web-1"), "web-1: bo is releasing sha-3 to web-1; nothing"),
        (HostFacts("web-1", state=HELD), "web-1: release id-1 of sha-2 is held; nothing was changed"),
        (HostFacts("web-1", state=HostState("blue", "sha-1", busy="bo is releasing sha-3")), "bo is releasing sha-3"),
    ],
)  # fmt: skip
def test_a_host_that_another_release_has_is_told(facts: HostFacts, said: str) -> None:
    """A lease, a hold or a session on a host ends a coordinator with 12."""
    assert said in taken_by([facts])
    assert bool(taken_by([facts])) is bool(said)


def end(done: tuple[HostStep, ...], *after: HostState, interrupted: bool = False) -> tuple[Status, int]:
    """Status and exit code if the hosts serve *after*."""
    before, now = dict.fromkeys(ALL, OLD), dict(zip(ALL, after, strict=True))
    found = judge_end(PLAN, done, before, now, ended_with=INTERRUPTED if interrupted else OK)
    assert [row.host for row in found.rows] == [*ALL]
    return found.status, found.exit_code


CONFIRMED = (*ALL_SWITCHED, *steps(CONFIRM, *ALL))
REVERTED = (*STAGED, *steps(SWITCH, "web-1", outcome=NO, code=1), *steps(REVERT, "web-1"))


def test_a_host_that_falls_silent_after_it_confirmed_is_named() -> None:
    """A host confirms only while it serves the release; that it could not be asked afterwards is said of it."""
    now = dict(zip(ALL, (NEW, SILENT, NEW), strict=True))
    found = judge_end(PLAN, CONFIRMED, dict.fromkeys(ALL, OLD), now)
    assert found.sentence.endswith("web-2 confirmed it, and since then could not be asked: no answer.")
    assert [row.outcome for row in found.rows] == ["yes", "unknown", "yes"]
    found = judge_end(PLAN, CONFIRMED, dict.fromkeys(ALL, OLD), now | {"web-2": NO_ENGINE})
    assert found.sentence.endswith(f"web-2 confirmed it, and since then {UNASKED}.")
    assert [row.outcome for row in found.rows] == ["yes", "unknown", "yes"]


@pytest.mark.parametrize(
    ("done", "after", "expected"),
    [
        (CONFIRMED, (NEW, NEW, NEW), (Status.RELEASED, 0)),
        (CONFIRMED, (NEW, OLD, NEW), (Status.ROLLBACK_FAILED, 11)),
        (CONFIRMED, (NEW, SILENT, NEW), (Status.RELEASED, 0)),
        (CONFIRMED, (NEW, NO_ENGINE, NEW), (Status.RELEASED, 0)),
        (CONFIRMED, (NEW, BACK_UNASKED, NEW), (Status.ROLLBACK_FAILED, 11)),
        (CONFIRMED, (NEW, replace(NO_ENGINE, operator="why"), NEW), (Status.ROLLBACK_FAILED, 11)),
        (REVERTED, (BACK_UNASKED, OLD, OLD), (Status.ROLLBACK_FAILED, 11)),
        (CONFIRMED, (NEW, HELD, NEW), (Status.ROLLBACK_FAILED, 11)),
        (CONFIRMED, (NEW, replace(NEW, runs=False), NEW), (Status.ROLLBACK_FAILED, 11)),
        (REVERTED, (EXITED, OLD, OLD), (Status.ROLLBACK_FAILED, 11)),
        (REVERTED, (OLD, OLD, OLD), (Status.ROLLED_BACK, 1)),
        (REVERTED, (NEW, OLD, OLD), (Status.ROLLBACK_FAILED, 11)),
        (REVERTED, (SILENT, OLD, OLD), (Status.ROLLBACK_FAILED, 11)),
        (steps(STAGE, *ALL, outcome=NO, code=1), (OLD, OLD, OLD), (Status.GATE_FAILED, 1)),
        (steps(STAGE, *ALL, outcome=UNKNOWN, code=10), (OLD, OLD, OLD), (Status.INCONCLUSIVE, 10)),
        (steps(STAGE, *ALL, outcome=UNKNOWN, code=None), (OLD, SILENT, OLD), (Status.INCONCLUSIVE, 10)),
        # What was asked after the claim is no refusal any more: 12 would say that nothing was changed.
        (steps(STAGE, *ALL, outcome=UNKNOWN, code=12), (OLD, OLD, OLD), (Status.INCONCLUSIVE, 10)),
        ((*ALL_SWITCHED, *steps(CONFIRM, "web-1", outcome=UNKNOWN, code=12), *steps(REVERT, *ALL)), (OLD, OLD, OLD),
         (Status.ROLLED_BACK, 10)),
        # A host that needs an operator does so whether it was switched or not, and whatever another one has ended.
        (steps(STAGE, "web-2", outcome=NO, code=11), (OLD, OLD, OLD), (Status.ROLLBACK_FAILED, 11)),
        (steps(STAGE, "web-2", outcome=NO, code=11), (OLD, SILENT, OLD), (Status.ROLLBACK_FAILED, 11)),
        (steps(STAGE, *ALL, outcome=NO, code=1), (OLD, BROKEN, OLD), (Status.ROLLBACK_FAILED, 11)),
        ((*REVERTED, *steps(STAGE, "web-3", outcome=NO, code=11)), (OLD, OLD, OLD), (Status.ROLLBACK_FAILED, 11)),
        (CONFIRMED, (NEW, NEW, replace(NEW, operator="why")), (Status.ROLLBACK_FAILED, 11)),
        # One that its coordinator could put in order does not any more.
        ((*STAGED, *steps(SWITCH, "web-1", outcome=NO, code=11), *steps(REVERT, "web-1")), (OLD, OLD, OLD),
         (Status.ROLLED_BACK, 1)),
    ],
)  # fmt: skip
def test_the_end_is_what_the_hosts_serve(
    done: tuple[HostStep, ...], after: tuple[HostState, ...], expected: tuple[Status, int]
) -> None:
    """A good end needs all hosts on the new tag; a revert needs each as before; all else needs an operator."""
    assert end(done, *after) == expected


@pytest.mark.parametrize(
    ("done", "after", "ended_with", "said"),
    [
        ((), (OLD, OLD, OLD), 2, "no host was switched, users noticed nothing: the session was interrupted."),
        ((), (OLD, OLD, OLD), 3, "no host was switched, users noticed nothing: the session broke."),
        (steps(STAGE, "web-2", outcome=NOT_ASKED, code=2), (OLD, OLD, OLD), 2,
         "no host was switched, users noticed nothing: the session was interrupted."),
        (steps(STAGE, "web-2", outcome=NO, code=1), (OLD, OLD, OLD), 0,
         "no host was switched, users noticed nothing: sha-2 did not pass on web-2."),
        (steps(STAGE, "web-2", outcome=NO, code=1), (OLD, OLD, SILENT), 0,
         "no host was switched: sha-2 did not pass on web-2. web-3 could not be asked: no answer."),
        (steps(STAGE, "web-2", outcome=NO, code=11), (OLD, BROKEN, OLD), 0,
         f"an operator is needed. Right now: web-2 blue serves sha-1; an operator is needed: {BROKEN.operator}."),
    ],
)  # fmt: skip
def test_the_end_before_a_switch_says_what_is_known(
    done: tuple[HostStep, ...], after: tuple[HostState, ...], ended_with: int, said: str
) -> None:
    """What users noticed is known only of hosts that were asked; a host is named only if it said no."""
    now = dict(zip(ALL, after, strict=True))
    assert judge_end(PLAN, done, dict.fromkeys(ALL, OLD), now, ended_with=ended_with).sentence == said


def test_a_revert_that_no_host_caused_says_why() -> None:
    """A hold that would end too early, or a signal, is the reason that is told; that of a host comes first."""
    before = dict.fromkeys(ALL, OLD)
    reverted = (*STAGED, *steps(SWITCH, "web-1"), *steps(REVERT, "web-1"))
    found = judge_end(PLAN, reverted, before, before, reverted_for="the hold ends")
    assert (found.why, found.exit_code) == ((("", "the hold ends"),), 1)
    assert judge_end(PLAN, REVERTED, before, before, reverted_for="x").why == (
        ("web-1", "switch: it said no"),
    )


def test_an_interrupted_release_ends_with_2() -> None:
    """Exit 2 needs that all hosts are as before."""
    assert end(STAGED, OLD, OLD, OLD, interrupted=True)[1] == 2
    done = (*STAGED, *steps(SWITCH, "web-1", outcome=NOT_ASKED, code=2), *steps(REVERT, "web-1"))
    assert end(done, OLD, OLD, OLD, interrupted=True) == (Status.ROLLED_BACK, 2)
    assert end(done, HELD, OLD, OLD, interrupted=True)[1] == 11


def settings(more: dict[str, object] | None = None, **hosts: object) -> Settings:
    """The settings of three hosts."""
    table = {"names": ALL, "path": "/srv/recall", **hosts}
    proxy = {"driver": "nginx", "url": "http://127.0.0.1", "drain_timeout": "5s"}
    colors = {"blue": {"env_file": Path(".env")}}
    return Settings.model_validate(
        {"project": "recall", "colors": colors, "proxy": proxy, "watch": {"duration": "1m"}, "hosts": table}
        | (more or {})
    )


@pytest.mark.parametrize(
    ("required", "given", "said"),
    [
        (False, None, ""),
        (True, "sha-2", ""),
        (True, None, "a host has no terminal, and CUTOVER_APPROVED_TAG is not set: CUTOVER_APPROVED_TAG=sha-2 approves"),
        (True, "", "CUTOVER_APPROVED_TAG approves nothing: CUTOVER_APPROVED_TAG=sha-2 approves"),
        (True, "sha-1", "CUTOVER_APPROVED_TAG approves sha-1: CUTOVER_APPROVED_TAG=sha-2 approves"),
    ],
)  # fmt: skip
def test_a_switch_that_nobody_can_approve_is_refused_before_a_host_is_staged(
    required: bool, given: str | None, said: str
) -> None:
    """A host is reached without a terminal: what approves the switch is said here, for all of them."""
    found = settings({"approval": {"required": required}})
    if not said:
        require_approved(found, "sha-2", given)
        return
    with pytest.raises(ConfigError, match=said):
        require_approved(found, "sha-2", given)


def test_hosts_are_chosen_by_name() -> None:
    """`all` or names of [hosts], in its order; others are refused."""
    assert chosen_hosts("all", settings()) == ALL
    assert chosen_hosts("web-3, web-1", settings()) == ("web-1", "web-3")
    for given in ("web-9", "", "all,web-1"):
        with pytest.raises(ConfigError, match=r"--hosts: unknown host .*web-1, web-2, web-3"):
            chosen_hosts(given, settings())


def test_a_plan_has_batches_with_their_watches() -> None:
    """The batches of the file for the chosen hosts; a hold that is too short is refused with its origin."""
    plan = plan_hosts(settings(), ALL, "sha-2")
    assert [(batch.hosts, batch.watch_s) for batch in plan.batches] == [((host,), 60.0) for host in ALL]
    assert (plan.hosts, plan.hold_s) == (ALL, 3600.0)
    assert plan_hosts(settings(), ALL[:1], "sha-2", hold_s=90.0).hosts == ALL[:1]
    with pytest.raises(ConfigError, match=r"^--hold: 1 min 10 s is too short"):
        plan_hosts(settings(), ALL, "sha-2", hold_s=70.0)


@pytest.mark.parametrize(
    ("more", "given", "migrate_on"),
    [
        ({}, None, "all"),
        ({"migrate": {"command": ["alembic", "upgrade", "head"]}}, None, "first"),
        ({"migrate": {"command": ["alembic", "upgrade", "head"]}}, "all", "all"),
        ({}, "first", "first"),
    ],
)
def test_a_migration_runs_once_unless_each_host_has_a_database(
    more: dict[str, object], given: str | None, migrate_on: str
) -> None:
    """The default is one database of all hosts; --skip-migrations leaves it alone on all."""
    found = settings(more, migrate_on=given)
    assert plan_hosts(found, ALL, "sha-2").migrate_on == migrate_on
    assert plan_hosts(found, ALL, "sha-2", migrate=False).migrate_on == "none"

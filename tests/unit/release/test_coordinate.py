"""What a coordinator runs on hosts, and how it reads what they send."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import pytest

from cutover.core.config import Settings
from cutover.core.config_schema import parse_duration
from cutover.core.result import Reason, SessionResult, Status
from cutover.core.target import ReleaseRequest
from cutover.core.verdict import Outcome
from cutover.release import coordinate
from cutover.release.coordinate import (
    Coordinator,
    HostReport,
    HostsRequest,
    _last_word,
    confirm_script,
    host_options,
    unpack,
)
from cutover.release.hosts import HostAction, HostBatch, HostFacts, HostPhase, HostsPlan, HostState, HostStep
from cutover.report.terminal import last_lines
from cutover.system.process import CompletedCommand
from tests.helpers.near_host import NearHost

PLAN = HostsPlan("sha-2", (HostBatch(("web-1",), 60.0),), 600.0, path="/srv/the shop/")
SETTINGS = Settings.model_validate(
    {
        "project": "recall",
        "colors": {"blue": {"env_file": Path(".env")}},
        "proxy": {"driver": "nginx", "url": "http://127.0.0.1", "drain_timeout": "5s"},
        "watch": {"duration": "1m"},
        "hosts": {"names": ["web-1"], "path": "/srv/the shop/"},
    }
)


def test_a_session_on_a_host_is_one_line_of_shell() -> None:
    """Phase 1 stages, phase 2 switches under hold; both end with their connection."""
    request = HostsRequest(SETTINGS, PLAN, "id", "ana o'x", ("--allow-no-rollback",))
    stage, switch = (
        request.session(HostAction(phase, ("web-1",), 60.0)) for phase in (HostPhase.STAGE, HostPhase.SWITCH)
    )
    assert "cutover release sha-2 --stage --allow-no-rollback" in stage
    assert "cutover release sha-2 --staged --watch=60s --hold=600s --allow-no-rollback" in switch
    for line in (stage, switch):
        assert line.startswith("exec 3<&0; ")
        assert "cd '/srv/the shop/'" in line
        assert "\n" not in line
    assert "CUTOVER_REPORTS='/srv/the shop/reports/hosts-id/stage'" in stage
    assert "CUTOVER_CONFIG" not in stage
    assert "CUTOVER_APPROVED_TAG" not in stage + switch
    stage, switch = (
        replace(request, approved="sha-2").session(HostAction(phase, ("web-1",), 60.0))
        for phase in (HostPhase.STAGE, HostPhase.SWITCH)
    )
    assert ("CUTOVER_APPROVED_TAG=sha-2 " in stage, "CUTOVER_APPROVED_TAG=sha-2 " in switch) == (False, True)
    named = replace(request, plan=replace(PLAN, config="my shop.toml"))
    assert all(
        "env CUTOVER_CONFIG='my shop.toml' " in each
        for each in (named.script("status"), named.script("rollback"))
    )


@pytest.mark.parametrize("text", ["1ms", "0.5ms", "1.25s", "90s", "1d4h0.5s", "11d13h46m40s", "12d", "30d"])
def test_a_host_reads_each_duration_that_cutover_toml_may_have(text: str) -> None:
    """Also one that Python would write with an exponent: all hosts are staged before the first one reads it."""
    seconds = parse_duration(text)
    plan = replace(PLAN, hold_s=seconds)
    line = HostsRequest(SETTINGS, plan, "id", "ana", ()).session(
        HostAction(HostPhase.SWITCH, ("web-1",), seconds)
    )
    found = [parse_duration(each) for each in re.findall(r"--(?:watch|hold)=([\w.+]+)", line)]
    assert found == pytest.approx([seconds, seconds])


@pytest.mark.parametrize(
    ("migrate_on", "skipped"),
    [("first", (False, True, True)), ("all", (False, False, False)), ("none", (True, True, True))],
)
def test_one_database_is_migrated_by_one_host(migrate_on: Any, skipped: tuple[bool, ...]) -> None:
    """The session of the first host migrates, those of the others and of the switch do not."""
    batch = HostBatch(("web-1", "web-2"), 60.0)
    request = HostsRequest(
        SETTINGS, HostsPlan("sha-2", (batch,), 600.0, migrate_on=migrate_on), "id", "ana", ()
    )
    actions = (
        HostAction(HostPhase.STAGE, ("web-1",)),
        HostAction(HostPhase.STAGE, ("web-2",)),
        HostAction(HostPhase.SWITCH, ("web-1",)),
    )
    assert tuple("--skip-migrations" in request.session(each) for each in actions) == skipped


def test_options_of_the_coordinator_reach_the_hosts() -> None:
    """What is allowed here is allowed there; checklists of a team's own are named."""
    asked = ReleaseRequest(("idle",), deploy="sha-2", switch=True, migrate=False, allow_no_rollback=True)
    assert host_options(asked, ()) == ("--allow-no-rollback",)
    assert host_options(ReleaseRequest(("idle",)), ("ops/gate",)) == ("--tests=ops/gate",)


def run(script: str) -> None:
    """Run a script to its end."""
    subprocess.run(("sh", "-c", script), check=True, timeout=60)


def test_all_hosts_are_confirmed_and_their_answers_kept(tmp_path: Path) -> None:
    """Output and exit code of each; a host that ssh does not reach, or whose lock somebody has, is asked again."""
    once = f'if [ -e "{tmp_path}/seen" ]; then echo kept; exit 0; fi; : >"{tmp_path}/seen"; exit 255'
    locked = once.replace("seen", "locked").replace("255", "12")
    argvs = {
        "web-1": ("echo", "a b"),
        "web-2": ("sh", "-c", "echo late >&2; exit 1"),
        "web-3": ("sh", "-c", once),
        "web-4": ("sh", "-c", locked),
    }
    run(confirm_script(argvs, tmp_path, 30.0))
    found = {path.name: path.read_text().strip() for path in tmp_path.glob("web-*")}
    assert found == {
        "web-1.out": "a b", "web-1.code": "0", "web-2.out": "late", "web-2.code": "1", "web-3.out": "kept", "web-3.code": "0",
        "web-4.out": "kept", "web-4.code": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ('{"confirmed": "7", "notes": []}', "confirmed"),
        ('Welcome\n{"confirmed": "7", "notes": ["retire blue: not stopped", "record: not written"]}',
         "confirmed; retire blue: not stopped; record: not written"),
        ("", "confirmed"),
    ],
)  # fmt: skip
def test_what_a_host_has_not_done_after_its_commit_is_told(tmp_path: Path, printed: str, said: str) -> None:
    """It keeps the release, and a person learns that the old color still runs or that something is not recorded."""
    run(confirm_script({"web-1": ("printf", "%s", printed)}, tmp_path, 1.0))
    step = coordinate._confirmed("web-1", tmp_path, 0.1)
    assert (step.outcome, step.said) == (Outcome.YES, said)


@pytest.mark.parametrize("asked", [1, 3, 99])
def test_a_host_is_judged_when_nobody_has_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    """At the end it is asked again for some seconds: a session that begins then makes no operator needed."""
    monkeypatch.setattr(coordinate, "ASK_AGAIN_S", 0.0)
    answers = iter(range(asked))

    def answer(_script: str) -> CompletedCommand:
        owner = {"who": "bo", "what": "recover", "since": "now"} if next(answers, None) is not None else None
        colors = {"blue": {"tag": "sha-1", "runs": True}}
        return answered(out=json.dumps({"live": "blue", "colors": colors, "releasing": owner}))

    made = replace(coordinator(tmp_path), clock=iter(range(99)).__next__)
    made.hosts = {"web-1": AnsweringHost("web-1", None, answer=answer)}
    state = made._ask_free("web-1")
    assert bool(state.busy) is (asked == 99)
    assert state.text == (
        "blue serves sha-1; bo is releasing recover since now" if asked == 99 else "blue serves sha-1"
    )


def test_a_host_that_stays_silent_is_given_up_at_the_deadline(tmp_path: Path) -> None:
    """After the hold a confirmation means nothing any more."""
    run(confirm_script({"web-1": ("sh", "-c", "echo silent; exit 255")}, tmp_path, 1.0))
    assert (tmp_path / "web-1.code").read_text() == "255\n"


def test_confirmations_go_on_if_the_coordinator_is_killed(tmp_path: Path) -> None:
    """One process confirms on all hosts: there is no moment in which only some have been told."""
    argvs = dict.fromkeys(("web-1", "web-2"), ("sh", "-c", "sleep 0.5; echo done"))
    code = "import sys\nfrom cutover.system.process import run\nrun(('sh', '-c', sys.argv[1]), deadline_s=60)"

    words = (sys.executable, "-c", code, confirm_script(argvs, tmp_path, 30.0))
    with subprocess.Popen(words, start_new_session=True) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "web-1.out").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    while not ((tmp_path / "web-1.code").exists() and (tmp_path / "web-2.code").exists()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


BALANCED = SETTINGS.model_copy(
    update={
        "source": Path("/nowhere/cutover.toml"),
        "hosts": SETTINGS.hosts and SETTINGS.hosts.model_copy(update={"leave": ("true",), "join": ("true",)}),
    }
)


def coordinator(root: Path, starts: str = "echo Welcome") -> Coordinator:
    """One whose only host is this one, with *root* as its state directory."""
    request = HostsRequest(BALANCED, PLAN, "id", "ana", ())
    made = Coordinator(request, {"web-1": NearHost("web-1", None, starts=starts)}, root, lambda _report: None)
    made.facts["web-1"] = HostFacts("web-1", folder=str(root))
    made._held["web-1"] = "7"
    return made


def test_a_host_still_holds_what_its_file_says(tmp_path: Path) -> None:
    """Also where a start file of the shell prints a line; another release is a no, and no answer is unknown."""
    (tmp_path / "open").write_text("7\n")
    assert coordinator(tmp_path)._still_held("web-1") is None
    silent = coordinator(tmp_path, "exit 0")._still_held("web-1")
    assert silent is not None
    assert silent.outcome is Outcome.UNKNOWN
    (tmp_path / "open").write_text("8\n")
    lost = coordinator(tmp_path)._still_held("web-1")
    assert lost is not None
    assert (lost.outcome, lost.said) == (Outcome.NO, "it holds 7 no more")


def test_commands_of_a_balancer_get_the_environment_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with an engine on another host, for which a release on this one is refused."""
    monkeypatch.setenv("DOCKER_HOST", "ssh://ana@web-9")
    made = coordinator(tmp_path)
    made.request = replace(
        made.request, settings=BALANCED.model_copy(update={"source": tmp_path / "cutover.toml"})
    )
    assert made._own(("sh", "-c", "echo {host} $DOCKER_HOST"), "web-1").out == "web-1 ssh://ana@web-9\n"


def test_no_switch_is_not_an_unknown_number_of_them(tmp_path: Path) -> None:
    """Without a journal there was none; a host that does not answer has an unknown number."""
    assert coordinator(tmp_path)._switches("web-1") == 0
    did = '{"event": "did", "change": "switch"}\n'
    (tmp_path / "journal.jsonl").write_text(did * 5)
    assert coordinator(tmp_path)._switches("web-1") == 5
    assert coordinator(tmp_path, "exit 0")._switches("web-1") is None


def test_a_host_whose_switches_are_unknown_stays_in_the_balancer(tmp_path: Path) -> None:
    """Else the switches of former releases would count as this one, and users would be sent to it before it."""
    table = BALANCED.hosts
    assert table is not None
    left = ("touch", str(tmp_path / "left"))
    made = coordinator(tmp_path, "exit 0")
    settings = BALANCED.model_copy(update={"hosts": table.model_copy(update={"leave": left})})
    made.request = replace(made.request, settings=settings)
    step = made._switched_out_of_the_balancer("web-1", HostAction(HostPhase.SWITCH, ("web-1",), 60.0))
    assert step.outcome is Outcome.UNKNOWN
    assert step.said.startswith("its journal could not be read")
    assert not (tmp_path / "left").exists()


@dataclass(frozen=True, slots=True)
class AnsweringHost(NearHost):
    """A host that answers each line of shell as it is told to."""

    answer: Callable[[str], CompletedCommand] = lambda _script: answered()

    def run(
        self, script: str, *, deadline_s: float, stdin: int | None = None, mask: bool = True
    ) -> CompletedCommand:
        """The answer to *script*."""
        del deadline_s, stdin, mask
        return self.answer(script)


def answered(code: int = 0, out: str = "") -> CompletedCommand:
    """What a host answered."""
    return CompletedCommand(("ssh",), code, out, "")


def test_a_host_whose_engine_falls_silent_has_not_lost_its_release(tmp_path: Path) -> None:
    """What it has on its idle color is unknown then, and not nothing."""
    row = {"tag": None, "asked": False, "runs": False, "state": "its container could not be asked: no answer"}
    status = json.dumps({"live": "blue", "colors": {"blue": row, "green": row}})
    made = coordinator(tmp_path)
    made.hosts = {"web-1": AnsweringHost("web-1", None, answer=lambda _script: answered(10, status))}
    step = made._judged("web-1", HostPhase.STAGE, answered())
    assert (step.outcome, step.said) == (Outcome.UNKNOWN, f"it passed, and then: {row['state']}")


@pytest.mark.parametrize(
    ("code", "outcome", "while_ending"),
    [
        (1, Outcome.NO, Outcome.NO),
        (2, Outcome.NO, Outcome.NOT_ASKED),
        (3, Outcome.NO, Outcome.NO),
        (4, Outcome.NO, Outcome.NOT_ASKED),
        (10, Outcome.UNKNOWN, Outcome.UNKNOWN),
        (11, Outcome.NO, Outcome.NO),
        (12, Outcome.UNKNOWN, Outcome.NOT_ASKED),
        (143, Outcome.NO, Outcome.NOT_ASKED),
    ],
)
def test_a_session_that_is_ended_may_still_say_what_is_wrong(
    tmp_path: Path, code: int, outcome: Outcome, while_ending: Outcome
) -> None:
    """A revert that failed, a gate that did: these are of the host, also if another host has ended its session."""
    made = coordinator(tmp_path)
    assert made._judged("web-1", HostPhase.STAGE, answered(code)).outcome is outcome
    made._ending = True
    assert made._judged("web-1", HostPhase.STAGE, answered(code)).outcome is while_ending


@pytest.mark.parametrize("status", Status)
def test_the_last_word_of_a_host_has_its_first_reason(status: Status) -> None:
    """Of each status, on one line, also where the terminal has wrapped it."""
    reasons = (Reason("", "ready: " + "expected status 200, got 503, " * 5), Reason("", "a second one"))
    result = SessionResult(status, "recall", 1, sentence="recall runs sha-1.", reasons=reasons)
    said = _last_word(answered(1, "\n".join(["cutover recall", *last_lines(result), ""])))
    assert said == f"{status} recall runs sha-1. {reasons[0].text.strip()}"


@pytest.mark.parametrize(
    ("codes", "ending", "asked"),
    [((0,), False, 1), ((12, 12, 0), False, 3), ((12,) * 9, False, 4), ((12,) * 9, True, 1)],
)
def test_a_host_whose_lock_somebody_has_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: tuple[int, ...], ending: bool, asked: int
) -> None:
    """For some seconds: `cutover recover`, for one, has it for a moment."""
    monkeypatch.setattr(coordinate, "ASK_AGAIN_S", 0.0)
    times, left = iter((0.0, 3.0, 6.0, 9.0, 12.0, 15.0)), iter(codes)
    made = replace(coordinator(tmp_path), clock=lambda: next(times))
    made._ending = ending
    calls: list[int] = []

    def ask() -> CompletedCommand:
        calls.append(next(left))
        return answered(calls[-1])

    assert made._unlocked(ask).code == calls[-1]
    assert len(calls) == asked


@dataclass
class Shop:
    """What one of two hosts serves, and the commands that it got."""

    tag: str = "sha-1"
    held: bool = False
    got: list[str] = field(default_factory=list)

    def answer(self, script: str) -> CompletedCommand:
        """Answer a command of the coordinator."""
        done = re.search(r" cutover ((?:release|status|confirm|rollback) ?[\w-]*)(.*)", script)
        if done is None:
            return answered(out="7") if script.startswith("cat") else answered(1)
        self.got.append(done[1])
        match self.got[-1].split()[0]:
            case "release" if "--staged" in done[2]:
                self.tag, self.held = "sha-2", True
            case "rollback":
                self.tag, self.held = "sha-1", False
        old = self.tag == "sha-1"
        colors = {"blue": {"tag": "sha-1", "runs": True}, "green": {"tag": "sha-2", "runs": True}}
        held = {"hold": {"release": "7", "tag": "sha-2"}, "open": "7"} if self.held else {}
        return answered(out=json.dumps({"live": "blue" if old else "green", "colors": colors, **held}))


@pytest.mark.parametrize(
    ("fails_at", "status"),
    [
        ("stage[web-1]", Status.INCONCLUSIVE),
        ("switch[web-1]", Status.ROLLED_BACK),
        ("switch[web-2]", Status.ROLLED_BACK),
        ("confirm", Status.ROLLED_BACK),
        ("revert[web-2]", Status.ROLLED_BACK),
    ],
)
def test_an_error_of_the_coordinator_reverts_what_was_switched(
    tmp_path: Path, fails_at: str, status: Status
) -> None:
    """As an interruption does: a full disk must not leave the hosts apart, nor their users on what is not verified."""
    batches = (HostBatch(("web-1",), 60.0), HostBatch(("web-2",), 60.0))
    request = HostsRequest(SETTINGS, HostsPlan("sha-2", batches, 600.0), "id", "ana", ())
    shops = {"web-1": Shop(), "web-2": Shop()}
    hosts = {name: AnsweringHost(name, None, answer=shop.answer) for name, shop in shops.items()}
    (tmp_path / "confirm").touch()  # a file where a folder is to be made

    def told(report: HostReport) -> None:
        if f"{report.step.phase}[{report.step.host}]" == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")

    made = Coordinator(request, hosts, tmp_path, told)
    made.facts = {name: HostFacts(name, folder="/state") for name in shops}
    made.before = {name: made._ask(name) for name in shops}
    end = made.run()
    assert (end.status, end.exit_code) == (status, 3)
    assert {name: (shop.tag, shop.held) for name, shop in shops.items()} == dict.fromkeys(
        shops, ("sha-1", False)
    )
    assert end.why == (("", made.reverted_for),)
    assert made.reverted_for.startswith("the coordinator failed: ")


@dataclass
class BalancedShop(Shop):
    """A host behind a balancer, whose session switches or ends without a switch."""

    code: int = 0

    def answer(self, script: str) -> CompletedCommand:
        """Answer a command of the coordinator; the journal has a switch as soon as there was one."""
        if "journal.jsonl" in script:
            return answered(out=f"{int(self.tag != 'sha-1')}")
        if "--staged" in script and self.code:
            return answered(self.code)
        return super().answer(script)


BALANCER = """
case $1 in
    leave) rm -f in; exit {leave} ;;
    join) echo >>tries; if [ "$(grep -c "" tries)" -gt {fails} ]; then : >in; else echo "no route" >&2; exit 1; fi ;;
    status) [ -e in ] ;;
esac
"""


@pytest.mark.parametrize(
    ("leave", "fails", "code"), [each for each in product((0, 1), (0, 1, 9), (0, 1, 10)) if any(each)]
)
def test_a_host_that_is_taken_out_of_the_balancer_is_put_back_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave: int, fails: int, code: int
) -> None:
    """`join` is the undo of `leave`: asked again after the revert; if it fails an operator is needed, who is told."""
    monkeypatch.setattr(coordinate, "ASK_AGAIN_S", 0.01)
    (tmp_path / "in").touch()
    (tmp_path / "balancer").write_text(BALANCER.format(leave=leave, fails=fails))
    words = {name: ("sh", "balancer", name, "{host}") for name in ("leave", "join", "status")}
    made, shop = coordinator(tmp_path), BalancedShop(code=code)
    table = BALANCED.hosts
    assert table is not None
    settings = BALANCED.model_copy(
        update={"source": tmp_path / "cutover.toml", "hosts": table.model_copy(update=words)}
    )
    made.request = replace(made.request, settings=settings)
    made.hosts = {"web-1": AnsweringHost("web-1", None, answer=shop.answer)}
    made.before["web-1"] = made._ask("web-1")
    end = made.run()
    if (tmp_path / "in").exists():
        assert end.exit_code == (10 if code == 10 and not leave else 1), end
    else:
        join = shlex.join(("sh", "balancer", "join", "web-1"))
        assert (end.exit_code, end.command) == (11, f"cd {shlex.quote(str(tmp_path))} && {join}")
        assert "web-1 blue serves sha-1; an operator is needed: it is out of the balancer" in end.sentence
        assert "join: no route" in end.sentence
    assert shop.tag == "sha-1"
    assert (fails < 9) is (tmp_path / "in").exists()


@dataclass
class HoldingShop:
    """A host that holds sha-2 after sha-0 and sha-1; something happens to it at a certain command."""

    at: int
    happens: Literal["its guard reverts it", "somebody confirms it"]
    tags: list[str]
    held: bool = True

    def answer(self, script: str) -> CompletedCommand:
        """Answer a command of the coordinator as `cutover` does."""
        self.at -= 1
        if self.at == 0 and self.held:
            self.held = False
            if self.happens == "its guard reverts it":
                self.tags.pop()
        if " cutover rollback" in script and (self.held or not script.endswith(" 7")):
            self.held = False
            self.tags.pop()
        live, idle = ("blue", "green") if len(self.tags) == len("01") else ("green", "blue")
        colors = {live: {"tag": self.tags[-1], "runs": True}, idle: {"tag": "sha-9", "runs": True}}
        held = {"hold": {"release": "7", "tag": "sha-2"}, "open": "7"} if self.held else {}
        return answered(out=json.dumps({"live": live, "colors": colors, **held}))


@pytest.mark.parametrize("happens", ["its guard reverts it", "somebody confirms it"])
@pytest.mark.parametrize("at", range(1, 6))
@pytest.mark.parametrize("before", ["sha-1", "sha-2"], ids=["another tag", "the same tag again"])
def test_a_host_whose_hold_ends_while_it_is_rolled_back_goes_back_by_one_release(
    tmp_path: Path, happens: Any, at: int, before: str
) -> None:
    """Never to the one before: its guard may revert it between any two commands."""
    made, shop = coordinator(tmp_path), HoldingShop(at, happens, ["sha-0", before, "sha-2"])
    made.hosts = {"web-1": AnsweringHost("web-1", None, answer=shop.answer)}
    made.before["web-1"] = HostState("blue", before)
    step = made._roll_back("web-1", 0.0)
    assert (shop.tags, step.outcome) == (["sha-0", before], Outcome.YES)


@pytest.mark.parametrize("final", [False, True])
def test_what_is_confirmed_is_not_reverted_for_a_report(tmp_path: Path, final: bool) -> None:
    """An error while a step is reported ends a release, but not one that is being confirmed or reverted."""
    made = coordinator(tmp_path)
    made.before["web-1"] = HostState("blue", "sha-1")
    made.told, made._final = lambda _report: 1 / 0, final  # type: ignore[assignment]
    made._note(HostStep("web-1", HostPhase.CONFIRM, Outcome.YES, "confirmed", 0))
    assert made.broken is not final


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(
    ("tag", "rolled_back"), [("sha-2", True), ("sha-1", True), ("sha-9", False), (None, True)]
)
def test_the_release_of_another_session_is_not_taken_back(
    tmp_path: Path, held: bool, tag: str | None, rolled_back: bool
) -> None:
    """A person may have released on one host meanwhile: only what this release has put there is rolled back."""
    made, got = coordinator(tmp_path), list[str]()

    def answer(script: str) -> CompletedCommand:
        got.append(script)
        colors = {"green": {"tag": tag, "runs": True}, "blue": {"tag": "sha-1", "runs": True}}
        hold = {"hold": {"release": "7", "tag": tag}, "open": "7"} if held else {}
        return answered(out=json.dumps({"live": "green", "colors": colors, **hold}))

    made.hosts = {"web-1": AnsweringHost("web-1", None, answer=answer)}
    made.before["web-1"] = HostState("blue", "sha-1")
    step = made._roll_back("web-1", 0.0)
    assert any(" cutover rollback" in each for each in got) is rolled_back
    assert step.outcome is Outcome.NO
    assert step.said.endswith("by another release than this one: it is left as it is") is not rolled_back


@pytest.mark.parametrize(("held_for", "within"), [(None, "2 h 10 min"), (0.0, "10 min"), (540.0, "1 min")])
def test_a_silent_host_reverts_by_itself_within_the_time_that_is_told(
    tmp_path: Path, held_for: float | None, within: str
) -> None:
    """At the end of its hold, which begins only at the end of its session."""
    made = replace(coordinator(tmp_path), clock=lambda: 1000.0)
    made.hosts = {"web-1": AnsweringHost("web-1", None, answer=lambda _script: answered(255))}
    made.before["web-1"] = HostState("blue", "sha-1")
    if held_for is not None:
        made._held_since["web-1"] = 1000.0 - held_for
    assert made._roll_back("web-1", 0.0).said.endswith(f"; it reverts by itself within {within}")


def test_a_signal_just_before_the_confirmations_confirms_nobody(tmp_path: Path) -> None:
    """The hosts are rolled back for it: none of them commits first."""
    made, shop = coordinator(tmp_path), Shop("sha-2", held=True)
    made.hosts = {"web-1": AnsweringHost("web-1", None, answer=shop.answer)}
    made.interrupt()
    made._confirm(HostAction(HostPhase.CONFIRM, ("web-1",)))
    assert (shop.got, made.steps) == ([], [])
    made.interrupted = False
    made.interrupt()
    assert not made.interrupted  # from then on nothing interrupts


def packed(*members: tuple[str, bytes]) -> bytes:
    """A compressed tar file of plain files, and one link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("./link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return out.getvalue()


def test_only_plain_files_of_a_report_are_unpacked(tmp_path: Path) -> None:
    """A host cannot write outside of the folder of its report, nor make links in it."""
    folder = tmp_path / "report"
    folder.mkdir()
    unpack(packed(("./report.html", b"page"), ("../out", b"x"), ("/abs", b"x"), ("a/b", b"x")), folder)
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_more_files_than_a_report_has_are_refused(tmp_path: Path) -> None:
    """A host cannot fill the disk of the coordinator."""
    with pytest.raises(ValueError, match="more than a report has"):
        unpack(packed(*((f"./{number}", b"") for number in range(300))), tmp_path)

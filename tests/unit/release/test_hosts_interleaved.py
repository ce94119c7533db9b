"""The decisions of `release/hosts.py` with each answer lost or bad at each step, and the coordinator killed at each.

`Fleet` stands for the hosts and for the loop that asks them; tests/integration/test_hosts.py covers these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from cutover.core.result import Status
from cutover.core.verdict import Outcome
from cutover.release.hosts import (
    HostBatch,
    HostPhase,
    HostsEnd,
    HostsPlan,
    HostState,
    HostStep,
    judge_end,
    next_action,
    way_to_revert,
)

OLD = HostState("blue", "sha-1", "green", "sha-2")
NEW = HostState("green", "sha-2", "blue", "sha-1")
HELD = replace(NEW, hold="id-1", hold_tag="sha-2")
ALL = ("web-1", "web-2", "web-3")
PLAN = HostsPlan("sha-2", (HostBatch(ALL[:1], 60.0), HostBatch(ALL[1:], 60.0)), 600.0)
GOOD, BAD = "good", "bad"
CUT_BEFORE, CUT_AFTER = "cut before the command", "cut before the answer"
KILLED, LOST = "coordinator killed", "coordinator lost its power or its cable"
FAULTS = (BAD, CUT_BEFORE, CUT_AFTER, KILLED, LOST)
MOST_FAULTS = 3


class CoordinatorEndedError(Exception):
    """The coordinator is killed or lost."""


@dataclass
class Script:
    """Which fault each command meets, in the order in which they are sent; the first ones are given."""

    given: Sequence[str]
    met: list[str] = field(default_factory=list)

    def fault(self) -> str:
        """What the next command meets."""
        number = len(self.met)
        self.met.append(self.given[number] if number < len(self.given) else GOOD)
        return self.met[-1]


@dataclass
class Fleet:
    """Hosts and the coordinator that asks them, as coordinate.py does; each command meets what the script says."""

    script: Script
    states: dict[str, HostState] = field(default_factory=lambda: dict.fromkeys(ALL, OLD))
    cut: set[str] = field(default_factory=set)
    steps: list[HostStep] = field(default_factory=list)
    confirmations: list[str] = field(default_factory=list)
    """What became of each that was sent."""

    def do(self, host: str, phase: HostPhase, done: HostState, refused: HostState) -> None:
        """Send a command that leads to the state *done*, or to *refused* if it is bad."""
        fault = CUT_BEFORE if host in self.cut else self.script.fault()
        if fault in {KILLED, LOST}:
            raise CoordinatorEndedError
        if fault != CUT_BEFORE:
            self.states[host] = refused if fault == BAD else done
        if fault in {CUT_BEFORE, CUT_AFTER}:
            self.cut.add(host)
            self.steps.append(HostStep(host, phase, Outcome.UNKNOWN, "no answer"))
        else:
            outcome = Outcome.NO if fault == BAD else Outcome.YES
            self.steps.append(HostStep(host, phase, outcome, f"it said {outcome}", int(fault == BAD)))

    def ask(self, host: str) -> HostState:
        """What the coordinator knows of a host."""
        return HostState(silent="no answer") if host in self.cut else self.states[host]

    def release(self) -> HostsEnd:
        """The loop of the coordinator."""
        while action := next_action(PLAN, self.steps, 500.0):
            match action.phase:
                case HostPhase.STAGE:
                    for host in action.hosts:
                        self.do(host, action.phase, OLD, OLD)
                case HostPhase.SWITCH:
                    for host in action.hosts:
                        self.do(host, action.phase, HELD, OLD)
                case HostPhase.CONFIRM:
                    self.confirm(action.hosts)
                case HostPhase.REVERT:
                    for host in action.hosts:
                        if way_to_revert(OLD, self.ask(host)) == "roll back":
                            self.do(host, action.phase, OLD, self.states[host])
                        else:
                            good = self.ask(host) == OLD
                            outcome = Outcome.YES if good else Outcome.UNKNOWN
                            self.steps.append(HostStep(host, action.phase, outcome, "asked"))
        return judge_end(PLAN, self.steps, dict.fromkeys(ALL, OLD), {host: self.ask(host) for host in ALL})

    def confirm(self, hosts: Sequence[str]) -> None:
        """Ask all hosts whether they can be confirmed; then confirm by a process that goes on without the coordinator."""
        begun = len(self.steps)
        for host in hosts:
            self.do(host, HostPhase.CONFIRM, HELD, HELD)
        if any(each.outcome is not Outcome.YES for each in self.steps[begun:]):
            return
        del self.steps[begun:]
        for number, host in enumerate(hosts):
            try:
                self.do(host, HostPhase.CONFIRM, NEW, HELD)
            except CoordinatorEndedError:
                self.confirmations.append(self.script.met[-1])
                for each in hosts[number:] if self.script.met[-1] == KILLED else ():
                    self.states[each] = NEW
                raise
            self.confirmations.append(self.script.met[-1])

    @property
    def served(self) -> set[str]:
        """The tags that users get when all holds are over."""
        return {OLD.tag if state.hold else state.tag for state in self.states.values()}


def runs() -> Iterator[tuple[Fleet, HostsEnd | None]]:
    """Every run with at most three faults, each with its end; None for a coordinator that was killed or lost."""
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        given = waiting.pop()
        fleet = Fleet(Script(given))
        try:
            end: HostsEnd | None = fleet.release()
        except CoordinatorEndedError:
            end = None
        yield fleet, end
        if end is None or sum(each != GOOD for each in given) == MOST_FAULTS:
            continue
        for number in range(len(given), len(fleet.script.met)):
            waiting += [(*given, *[GOOD] * (number - len(given)), fault) for fault in FAULTS]


@cache
def all_runs() -> list[tuple[Fleet, HostsEnd | None]]:
    """Those of `runs`, made once."""
    return [*runs()]


def test_the_runs_have_each_fault_at_each_step() -> None:
    """A run without a fault releases; there are hundreds of others."""
    assert len(all_runs()) > 500
    fleet, end = all_runs()[0]
    assert end is not None
    assert (end.status, fleet.states) == (Status.RELEASED, dict.fromkeys(ALL, NEW))


def test_what_a_coordinator_says_is_what_the_hosts_serve() -> None:
    """0: all serve the new release. 1, 10: each is as before. 11: each that is not as it should be is named."""
    for fleet, end in all_runs():
        if end is None:
            continue
        told = (fleet.script.met, end.sentence)
        if end.status is Status.RELEASED:
            assert set(fleet.states.values()) == {NEW}, told
        elif end.status is not Status.ROLLBACK_FAILED:
            assert set(fleet.states.values()) == {OLD}, told
        else:
            assert {host for host in ALL if fleet.states[host] != OLD} <= {
                host for host in ALL if host in end.sentence
            }, told
        assert [row.now for row in end.rows] == [fleet.ask(host).text for host in ALL], told


def test_all_hosts_serve_one_release_when_the_holds_are_over() -> None:
    """Whatever fails; but a confirmation whose answer is lost, or that some hosts never get, cannot be taken back."""
    for fleet, _ in all_runs():
        faults = [each for each in fleet.script.met if each != GOOD]
        sent = [each for each in fleet.confirmations if each != GOOD]
        if not sent:
            assert len(fleet.served) == 1, fleet.script.met
        elif len(faults) == 1 and len(fleet.served) == 2:  # one fault split the hosts
            assert sent[0] in {CUT_AFTER, LOST}, fleet.script.met
        if not fleet.confirmations:
            assert fleet.served == {"sha-1"}, fleet.script.met


def test_a_coordinator_that_is_killed_splits_nobody() -> None:
    """At no step: before the confirmations all revert, from then on all keep the release."""
    for fleet, _ in all_runs():
        if [each for each in fleet.script.met if each != GOOD] == [KILLED]:
            assert fleet.served == ({"sha-2"} if fleet.confirmations else {"sha-1"}), fleet.script.met

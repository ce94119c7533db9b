"""Run a release on several hosts over ssh: ask them side by side, or one by one for a revert. `hosts.py` decides."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from cutover import __version__
from cutover.core.config import Settings
from cutover.core.config_schema import Hosts
from cutover.core.errors import ConfigError, Locked
from cutover.core.result import (
    FAILED,
    INCONCLUSIVE,
    INTERNAL,
    INTERRUPTED,
    LOCKED,
    NEEDS_OPERATOR,
    OK,
    Status,
)
from cutover.core.target import ReleaseRequest
from cutover.core.text import duration, exact
from cutover.core.verdict import Outcome
from cutover.release.hosts import (
    HostAction,
    HostFacts,
    HostPhase,
    HostsEnd,
    HostsPlan,
    HostState,
    HostStep,
    as_before,
    host_facts,
    host_state,
    judge_end,
    next_action,
    preflight_problems,
    taken_by,
    way_to_revert,
)
from cutover.release.plan import APPROVED_TAG
from cutover.system import process
from cutover.system.process import CompletedCommand, of_each
from cutover.system.ssh import UNREACHED, SshHost, ssh_environment, tied, unreached

ASK_DEADLINE_S = 60.0
SILENT_S = 60.0
"""How long a host that does not answer is asked again at the end."""
ASK_AGAIN_S = 1.0
LOCKED_S = 10.0
"""How long a host is asked again whose lock somebody has for a moment, as `cutover recover` does."""
REVERT_DEADLINE_S = 900.0
RENEW_S = 40.0
SESSION_MARGIN_S = 120.0
UNDECIDED = {INCONCLUSIVE, LOCKED}
"""Exit codes that say neither yes nor no of what was asked."""
OF_THE_HOST = {FAILED, INTERNAL, INCONCLUSIVE, NEEDS_OPERATOR}
"""Exit codes of a session that it has not because it was ended from outside."""
SKIP_MIGRATIONS = "--skip-migrations"
MOST_REPORT = 50_000_000
MOST_FILES = 200
LAST_MOMENT_S = 10.0
"""Time to roll one host back. Confirmations are repeated only while all could still be rolled back by the deadline."""


@dataclass(frozen=True, slots=True)
class HostsRequest:
    """The release on several hosts: what, where, and the words that each host's session gets."""

    settings: Settings
    plan: HostsPlan
    id: str
    who: str
    options: tuple[str, ...]
    """Further options of `cutover release` on each host."""
    approved: str = ""
    """The tag whose switch is approved, for `[approval] required`; empty for none."""

    @property
    def table(self) -> Hosts:
        """`[hosts]`, which the plan was made of."""
        if self.settings.hosts is None:
            raise ConfigError(f"{self.settings.source} has no [hosts]")
        return self.settings.hosts

    @property
    def what(self) -> str:
        """`sha-2 to web-1 and web-2`."""
        return f"{self.plan.tag} to {self.plan.where}"

    def script(self, *words: str, phase: str = "") -> str:
        """The line of shell that runs `cutover` with *words* on a host."""
        more = {"CUTOVER_REPORTS": f"{self.reports}/{phase}"} if phase else {}
        if self.approved and phase == HostPhase.SWITCH:
            more[APPROVED_TAG] = self.approved
        return self.plan.script(*words, CUTOVER_WHO=self.who, **more)

    @property
    def reports(self) -> str:
        """The folder of this release's reports on each host."""
        return f"{self.plan.path.rstrip('/')}/reports/hosts-{self.id}"

    def session(self, action: HostAction) -> str:
        """The session of a phase on a host; it ends in order if its connection or the coordinator ends."""
        words: tuple[str, ...] = ("release", self.plan.tag, "--stage")
        if action.phase is HostPhase.SWITCH:
            holds = (f"--watch={exact(action.watch_s)}s", f"--hold={exact(self.plan.hold_s)}s")
            words = ("release", self.plan.tag, "--staged", *holds)
        more = () if self.plan.migrates(action) else (SKIP_MIGRATIONS,)
        return tied(self.script(*words, *self.options, *more, phase=action.phase))


def host_options(request: ReleaseRequest, tests: Sequence[str]) -> tuple[str, ...]:
    """The options of `cutover release` by which a host does what *request* asks for, with the checklists *tests*."""
    flags = {
        "--allow-no-rollback": request.allow_no_rollback,
        "--allow-breaking-migration": request.allow_breaking_migration,
    }
    return (*(f"--tests={each}" for each in tests), *(name for name, given in flags.items() if given))


@dataclass(frozen=True, slots=True)
class HostReport:
    """A step of a host, and the folder with the files of its session's report."""

    step: HostStep
    folder: Path | None = None
    color: str = ""
    """The color that the release is put on."""


@dataclass
class Coordinator:
    """One release on several hosts."""

    request: HostsRequest
    hosts: Mapping[str, SshHost]
    folder: Path
    """Where the reports of the hosts are put."""
    told: Callable[[HostReport], None]
    """Called in the main thread with each step."""
    clock: Callable[[], float] = time.monotonic
    steps: list[HostStep] = field(default_factory=list)
    before: dict[str, HostState] = field(default_factory=dict)
    facts: dict[str, HostFacts] = field(default_factory=dict)
    interrupted: bool = False
    reverted_for: str = ""
    """Why the release is ended; empty if it is not, or if a step of a host says it."""
    broken: bool = False
    """Whether an exception of our own ended the release."""
    _held: dict[str, str] = field(default_factory=dict)
    """The hosts that have switched, each with the id of the release that it holds."""
    _held_since: dict[str, float] = field(default_factory=dict)
    _out: dict[str, str] = field(default_factory=dict)
    """The hosts that are out of the balancer, each with why it could not be put back, empty if that was not tried."""
    _lifelines: set[int] = field(default_factory=set)
    _ending: bool = False
    _final: bool = False
    """Whether the hosts are being confirmed or reverted, which nothing interrupts."""
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def plan(self) -> HostsPlan:
        """The plan of the release."""
        return self.request.plan

    # --- before -------------------------------------------------------------------------------------------------
    def preflight(self) -> None:
        """Ask all hosts side by side; raises Locked, or ConfigError with everything that is wrong."""
        found = of_each(self._ask_first, self.plan.hosts)
        if taken := taken_by(found):
            raise Locked(taken)
        digest = hashlib.sha256(self.request.settings.source.read_bytes()).hexdigest()
        if problems := preflight_problems(self.plan, found, __version__, digest):
            raise ConfigError("\n".join(problems))
        self.facts = {each.host: each for each in found}
        self.before = {each.host: each.state for each in found}

    def _ask_first(self, host: str) -> HostFacts:
        done = self._status(host)
        why = unreached(done) or f"`cutover` does not run there: {done.last_line}"
        return host_facts(host, _json(done), why)

    def _ask(self, host: str) -> HostState:
        done = self._status(host)
        facts = _json(done)
        return HostState(silent=unreached(done) or done.last_line) if facts is None else host_state(facts)

    def _ask_free(self, host: str) -> HostState:
        """The same, asked again for `LOCKED_S` while somebody has the lock of the host or its release is open."""
        state, end = self._ask(host), self.clock() + LOCKED_S
        while state.busy and self.clock() < end:
            time.sleep(ASK_AGAIN_S)
            state = self._ask(host)
        return state

    def _status(self, host: str) -> CompletedCommand:
        return self.hosts[host].run(self.request.script("status", "--json"), deadline_s=ASK_DEADLINE_S)

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Have all hosts while the body runs; raises Locked, with none of them taken, if another release has one."""
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        # Of two coordinators one gets the first host, and the other one then asks for no more.
        first, *others = sorted(self.plan.hosts)
        taken: list[str] = []
        try:
            for hosts in filter(None, ([first], others)):
                taken += hosts  # also one whose answer is lost; giving back what another release has changes nothing
                answers = dict(zip(hosts, of_each(self._claim, hosts), strict=True))
                if refused := {host: done for host, done in answers.items() if not done.ok}:
                    raise _not_claimed(refused)
            renewing.start()
            yield
        finally:
            ended.set()
            if renewing.is_alive():
                renewing.join()  # a claim that is on its way would arrive after the end
            of_each(self._give_back, taken)

    def _claim(self, host: str) -> CompletedCommand:
        script = self.request.script("lease", self.request.id, f"--what={self.request.what}", "--json")
        return self.hosts[host].run(script, deadline_s=ASK_DEADLINE_S)

    def _give_back(self, host: str) -> None:
        script = self.request.script("lease", self.request.id, "--end")
        self.hosts[host].run(script, deadline_s=ASK_DEADLINE_S)

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(RENEW_S):
            of_each(self._claim, self.plan.hosts)

    # --- the release --------------------------------------------------------------------------------------------
    def run(self) -> HostsEnd:
        """Stage, switch batch by batch, confirm; or revert. Then ask each host what it serves."""
        while action := next_action(
            self.plan, self.steps, self._left_s, interrupted=self.interrupted or self.broken
        ):
            try:
                self._do(action)
            except Exception as error:  # noqa: BLE001  # whatever broke, the switched hosts must be rolled back
                self._break(error)
                answered = {each.host for each in self.steps if each.phase is action.phase}
                silent = [host for host in action.hosts if host not in answered]
                unasked = (action.phase, Outcome.NOT_ASKED, self.reverted_for)
                self.steps += [HostStep(host, *unasked) for host in silent]
        after = dict(zip(self.plan.hosts, of_each(self._ask_free, self.plan.hosts), strict=True))
        after |= {host: self._left_out(host, after[host]) for host in self._out}
        code = INTERRUPTED if self.interrupted else INTERNAL if self.broken else OK
        why, states = self.reverted_for, (self.before, after)
        return judge_end(self.plan, self.steps, *states, reverted_for=why, ended_with=code)

    def _left_out(self, host: str, now: HostState) -> HostState:
        """*now* of a host that is out of the balancer, with the command that a person runs here to put it back."""
        why = f"it is out of the balancer{f': {self._out[host]}' if self._out[host] else ''}"
        join = shlex.join(self._filled(self.request.table.join, host))
        way_out = f"cd {shlex.quote(self._folder)} && {join}"
        return replace(now, operator=f"{now.operator}; {why}" if now.operator else why, way_out=way_out)

    def _do(self, action: HostAction) -> None:
        match action.phase:
            case HostPhase.CONFIRM:
                self._confirm(action)
            case HostPhase.REVERT:
                self._revert(action)
            case _ if not self._lost():
                self._sessions(action)

    def _break(self, error: Exception) -> None:
        """End the release because of an error of our own, as an interruption does."""
        self.broken = True
        self.reverted_for = self.reverted_for or failure(error)
        self._end_sessions()

    @property
    def _left_s(self) -> float:
        """How long the first hold still lasts."""
        return self._hold_left_s(min(self._held_since.values(), default=self.clock()))

    def _hold_left_s(self, since: float) -> float:
        return max(0.0, self.plan.hold_s - (self.clock() - since))

    def interrupt(self) -> None:
        """End the sessions on the hosts, in order, and revert what was switched; from any thread."""
        with self._mutex:
            if self._final:
                return
            self.interrupted = True
        self._end_sessions()

    def _end_sessions(self) -> None:
        with self._mutex:
            self._ending = True
            for lifeline in self._lifelines:
                os.close(lifeline)
            self._lifelines.clear()

    def _lost(self) -> bool:
        """Whether a switched host holds the release no more, or cannot be asked: then no further host is switched."""
        lost = [each for each in of_each(self._still_held, [*self._held]) if each is not None]
        for each in lost:
            self._note(each)
        return bool(lost)

    def _still_held(self, host: str) -> HostStep | None:
        """Why the host is not good any more; None if it holds. By its file, because a Python takes much longer."""
        begun = self.clock()
        script = f"cat {shlex.quote(self.facts[host].folder)}/open"
        done = self.hosts[host].run(script, deadline_s=ASK_DEADLINE_S)
        if done.out.strip() == self._held[host]:
            return None
        silence = unreached(done)
        said = silence or f"it holds {self._held[host]} no more"
        outcome = Outcome.UNKNOWN if silence else Outcome.NO
        return HostStep(host, HostPhase.SWITCH, outcome, said, seconds=self.clock() - begun)

    def _note(self, step: HostStep, folder: Path | None = None) -> None:
        self.steps.append(step)
        try:
            self.told(HostReport(step, folder, self.before[step.host].idle))
        except Exception as error:  # noqa: BLE001  # whatever a plugin does; the other hosts are still to be asked
            if not self._final:  # what is confirmed stays, and what is reverted is reverted everywhere
                self._break(error)

    def _sessions(self, action: HostAction) -> None:
        """The sessions of a phase, side by side; the first one that is not good ends the others."""
        with self._mutex:
            self._ending = self.interrupted
        with ThreadPoolExecutor(len(action.hosts)) as pool:
            sessions = [pool.submit(self._session, host, action) for host in action.hosts]
            for each in as_completed(sessions):
                report = each.result()
                self._note(report.step, report.folder)
                if report.step.outcome is not Outcome.YES:
                    self._end_sessions()

    def _session(self, host: str, action: HostAction) -> HostReport:
        begun = self.clock()
        try:
            if action.phase is HostPhase.SWITCH and self.request.table.leave:
                step = self._switched_out_of_the_balancer(host, action)
            else:
                step = self._judged(host, action.phase, self._unlocked(lambda: self._tied(host, action)))
        except Exception as error:  # noqa: BLE001  # it may have switched: the release is reverted there too
            step = HostStep(host, action.phase, Outcome.UNKNOWN, failure(error))
        return HostReport(replace(step, seconds=self.clock() - begun), self._fetch(host, action.phase))

    def _unlocked(self, ask: Callable[[], CompletedCommand]) -> CompletedCommand:
        """What *ask* returns, called again for `LOCKED_S` while somebody has the lock of the host."""
        end = self.clock() + LOCKED_S
        while (done := ask()).code == LOCKED and self.clock() < end and not self._ending:
            time.sleep(ASK_AGAIN_S)
        return done

    def _tied(self, host: str, action: HostAction) -> CompletedCommand:
        reads, writes = os.pipe()
        with self._mutex:
            if self._ending:
                os.close(writes)
            else:
                self._lifelines.add(writes)
        deadline_s = self.request.settings.release_timeout + SESSION_MARGIN_S
        try:
            return self.hosts[host].run(self.request.session(action), deadline_s=deadline_s, stdin=reads)
        finally:
            os.close(reads)
            with self._mutex:
                if writes in self._lifelines:
                    self._lifelines.discard(writes)
                    os.close(writes)

    def _judged(self, host: str, phase: HostPhase, done: CompletedCommand) -> HostStep:
        if silence := unreached(done):
            return HostStep(host, phase, Outcome.UNKNOWN, silence)
        said = _last_word(done)
        if not done.ok:
            outcome = Outcome.UNKNOWN if done.code in UNDECIDED else Outcome.NO
            # A session that was ended because of another host says nothing about its own.
            outcome = Outcome.NOT_ASKED if self._ending and done.code not in OF_THE_HOST else outcome
            return HostStep(host, phase, outcome, said, done.code)
        state = self._ask(host)
        there = state.hold_tag if phase is HostPhase.SWITCH else state.idle_tag
        if silence := state.silent or ("" if there else state.unasked):
            return HostStep(host, phase, Outcome.UNKNOWN, f"it passed, and then: {silence}", done.code)
        if there != self.plan.tag:
            what = "holds" if phase is HostPhase.SWITCH else "has on its idle color"
            said = f"it {what} {there or 'nothing'}, not {self.plan.tag}"
            return HostStep(host, phase, Outcome.NO, said, done.code)
        if phase is HostPhase.SWITCH:
            with self._mutex:
                self._held_since[host], self._held[host] = self.clock(), state.hold
        return HostStep(host, phase, Outcome.YES, said, done.code)

    # --- the balancer -------------------------------------------------------------------------------------------
    def _switched_out_of_the_balancer(self, host: str, action: HostAction) -> HostStep:
        """Take the host out, begin its session, and put it back as soon as it has switched: users are watched then."""
        table = self.request.table
        if (seen := self._switches(host)) is None:
            why = "its journal could not be read, so its switch would not be seen; it stays in the balancer"
            return HostStep(host, HostPhase.SWITCH, Outcome.UNKNOWN, why)
        self._out[host] = ""  # first, so that a revert puts it back whatever breaks here
        left = self._own(table.leave, host)
        if not left.ok:
            problem = self._joined(host)
            said = f"leave: {left.last_line}{f'; {problem}' if problem else ''}"
            return HostStep(host, HostPhase.SWITCH, Outcome.NO, said, left.code)
        with ThreadPoolExecutor(1) as pool:
            session = pool.submit(self._unlocked, lambda: self._tied(host, action))
            while not session.done() and (self._switches(host) or 0) <= seen:
                time.sleep(ASK_AGAIN_S)
            problem = self._joined(host)  # also the undo of `leave`, if the session ended without a switch
            step = self._judged(host, HostPhase.SWITCH, session.result())
        if not problem:
            return step
        if step.outcome is Outcome.YES:
            return replace(step, outcome=Outcome.NO, said=problem)
        return replace(step, said=f"{step.said}; {problem}")

    def _joined(self, host: str) -> str:
        """Put the host back into the balancer; why it is not there, empty if it is."""
        table = self.request.table
        for name, words in (("join", table.join), ("status", table.status)):
            if words and not (done := self._own(words, host)).ok:
                self._out[host] = f"{name}: {done.last_line}"
                return self._out[host]
        self._out.pop(host, None)
        return ""

    def _switches(self, host: str) -> int | None:
        """How many switches the journal of the host has, which may not be there yet; None without an answer."""
        file = f"{shlex.quote(self.facts[host].folder)}/journal.jsonl"
        script = f'if [ -e {file} ]; then grep -c \'"did".*"switch"\' {file}; else echo 0; fi'
        said = self.hosts[host].run(script, deadline_s=ASK_DEADLINE_S).out.strip()
        return int(said) if said.isdigit() else None

    @property
    def _folder(self) -> str:
        """Where the commands of the balancer are run."""
        return str(self.request.settings.source.parent)

    def _filled(self, words: Sequence[str], host: str) -> list[str]:
        return [each.replace("{host}", host) for each in words]

    def _own(self, words: Sequence[str], host: str) -> CompletedCommand:
        argv, given = self._filled(words, host), process.NO_ENGINE | os.environ
        return process.run(argv, deadline_s=ASK_DEADLINE_S, environment=given, cwd=self._folder)

    # --- confirm and revert -------------------------------------------------------------------------------------
    def _confirm(self, action: HostAction) -> None:
        """Confirm, once all hosts say that they can be; by one process that goes on alone if this one is killed."""
        with self._mutex:
            self._final = True
            if self.interrupted:
                return  # in this very moment: what would be confirmed now would be rolled back
        asked = of_each(self._may_confirm, action.hosts)
        if refused := [each for each in asked if each.outcome is not Outcome.YES]:
            for each in refused:
                self._note(each)
            return
        begun, left_s = self.clock(), max(0.0, self._left_s - LAST_MOMENT_S * len(action.hosts))
        answers = self.folder / "confirm"
        answers.mkdir(exist_ok=True)
        argvs = {host: self.hosts[host].argv(self._confirmation(host)) for host in action.hosts}
        argv, deadline_s = ("sh", "-c", confirm_script(argvs, answers, left_s)), left_s + ASK_DEADLINE_S
        process.run(argv, deadline_s=deadline_s, environment=ssh_environment())
        for host in action.hosts:
            self._note(_confirmed(host, answers, self.clock() - begun))

    def _confirmation(self, host: str, *more: str) -> str:
        return self.request.script("confirm", self._held[host], "--json", *more)

    def _may_confirm(self, host: str) -> HostStep:
        begun = self.clock()
        script = self._confirmation(host, "--check")
        done = self._unlocked(lambda: self.hosts[host].run(script, deadline_s=ASK_DEADLINE_S))
        return _of_confirmation(host, done, self.clock() - begun)

    def _revert(self, action: HostAction) -> None:
        """Roll the hosts back one by one, in the order of *action*; each is asked afterwards."""
        self._final, self.reverted_for = True, self.reverted_for or action.why
        silent = [host for host in action.hosts if not self._rolled_back(host, 0.0)]
        for host in silent:  # the others have not waited for it
            self._rolled_back(host, SILENT_S)

    def _rolled_back(self, host: str, patience_s: float) -> bool:
        """Roll a host back and note the step; False, without a step, for a silent one with *patience_s* 0."""
        begun = self.clock()
        step = self._roll_back(host, begun + patience_s)
        if step.code is None and step.outcome is Outcome.UNKNOWN and not patience_s:
            return False
        if host in self._out and step.outcome is Outcome.YES:
            self._joined(host)
        self._note(replace(step, seconds=self.clock() - begun))
        return True

    def _roll_back(self, host: str, patience: float) -> HostStep:
        before = self.before[host]
        state, end = self._ask(host), self.clock() + REVERT_DEADLINE_S
        # One that is busy reverts by itself, which may take its time.
        while way_to_revert(before, state) == "wait" and self.clock() < (patience if state.silent else end):
            time.sleep(ASK_AGAIN_S)
            state = self._ask(host)
        if state.silent:
            # One that fell silent in its session may go on with it, and holds then.
            session_s = 0.0 if host in self._held_since else self.request.settings.release_timeout
            left = duration(session_s + self._hold_left_s(self._held_since.get(host, self.clock())))
            sent = any(each.phase is HostPhase.CONFIRM and each.host == host for each in self.steps)
            but = "unless its confirmation has reached it, " if sent else ""
            why = f"{state.silent}; {but}it reverts by itself within {left}"
            return HostStep(host, HostPhase.REVERT, Outcome.UNKNOWN, why)
        if way_to_revert(before, state) == "nothing":
            return _reverted(host, before, state)
        there = state.hold_tag if state.hold else state.tag
        if there and there not in {before.tag, self.plan.tag}:
            said = f"{state.text}, by another release than this one: it is left as it is"
            return HostStep(host, HostPhase.REVERT, Outcome.NO, said)
        # By its name: a rollback after its guard has reverted it, at the end of the hold, would go one release too far.
        done, now = self._rollback(host, *filter(None, [state.hold]))
        kept = now.tag == self.plan.tag and not now.hold and way_to_revert(before, now) == "roll back"
        if state.hold and kept:  # it was confirmed in that moment
            done, now = self._rollback(host)
        return _reverted(host, before, now, done)

    def _rollback(self, host: str, *release: str) -> tuple[CompletedCommand, HostState]:
        """Run `cutover rollback` on a host; what came of it, and what the host serves then."""
        done = self.hosts[host].run(self.request.script("rollback", *release), deadline_s=REVERT_DEADLINE_S)
        return done, self._ask_free(host)

    # --- reports ------------------------------------------------------------------------------------------------
    def _fetch(self, host: str, phase: HostPhase) -> Path | None:
        """The files of the host's own report, copied beside ours; None if they could not be fetched."""
        folder, there = self.folder / host / phase, f"{self.request.reports}/{phase}/latest/"
        try:
            content = self.hosts[host].fetch(there, most=MOST_REPORT, deadline_s=ASK_DEADLINE_S)
            folder.mkdir(parents=True, exist_ok=True)
            unpack(content, folder)
        except (OSError, tarfile.TarError, EOFError, ValueError):
            return None
        return folder


def _reverted(host: str, before: HostState, now: HostState, done: CompletedCommand | None = None) -> HostStep:
    """The step by what the host serves, after its rollback if it needed one."""
    good, code = as_before(before, now), done.code if done else None
    if good:
        return HostStep(host, HostPhase.REVERT, Outcome.YES, f"{now.text}, as before", code)
    rollback = f"; rollback: {unreached(done) or done.last_line}" if done else ""
    return HostStep(host, HostPhase.REVERT, Outcome.NO, f"{now.text}{rollback}", code)


def failure(error: Exception) -> str:
    """What *error* of our own is called in a reason."""
    return f"the coordinator failed: {type(error).__name__}: {error}"


def confirm_script(argvs: Mapping[str, Sequence[str]], answers: Path, left_s: float) -> str:
    """The shell script that runs all *argvs* at once, for *left_s* each again while its host is not reached or locked.

    Output and exit code of each go to HOST.out and HOST.code in the folder *answers*.
    """
    lines = [f"end=$(($(date +%s) + {int(left_s)}))"]
    for host, argv in argvs.items():
        out, code = (shlex.quote(str(answers / f"{host}.{kind}")) for kind in ("out", "code"))
        ended = f'{{ [ "$c" -ne {UNREACHED} ] && [ "$c" -ne {LOCKED} ]; }} || [ "$(date +%s)" -ge "$end" ]'
        ask = f"{shlex.join(argv)} >{out} 2>&1 </dev/null; c=$?"
        asks = f"while :; do {ask}; if {ended}; then break; fi; sleep 1; done"
        lines.append(f'{{ {asks}; echo "$c" >{code}; }} &')
    return "\n".join([*lines, "wait"])


def _confirmed(host: str, answers: Path, seconds: float) -> HostStep:
    code, said = UNREACHED, "no answer"
    with contextlib.suppress(OSError, ValueError):
        said = (answers / f"{host}.out").read_text(encoding="utf-8", errors="replace").strip()
        code = int((answers / f"{host}.code").read_text(encoding="utf-8"))
    return _of_confirmation(host, CompletedCommand(("ssh",), code, said, said), seconds)


def _of_confirmation(host: str, done: CompletedCommand, seconds: float) -> HostStep:
    if done.ok:
        notes = (_json(done) or {}).get("notes") or ()  # what was not done after the commit
        said = "; ".join(("confirmed", *map(str, notes)))
        return HostStep(host, HostPhase.CONFIRM, Outcome.YES, said, done.code, seconds)
    if silence := unreached(done):
        return HostStep(host, HostPhase.CONFIRM, Outcome.UNKNOWN, silence, seconds=seconds)
    outcome = Outcome.UNKNOWN if done.code in UNDECIDED else Outcome.NO
    return HostStep(host, HostPhase.CONFIRM, outcome, done.last_line, done.code, seconds)


def _not_claimed(refused: Mapping[str, CompletedCommand]) -> Locked | ConfigError:
    said = {host: done.last_line.removeprefix("cutover: ") for host, done in refused.items()}
    lines = {host: unreached(done) or said[host] for host, done in refused.items()}
    locked = [host for host, done in refused.items() if done.code == LOCKED]
    if locked:
        return Locked(f"{locked[0]}: {lines[locked[0]]}")
    return ConfigError("\n".join(f"{host}: {line}" for host, line in lines.items()))


def unpack(content: bytes, folder: Path) -> None:
    """Write the plain files at the top of a tar file to *folder*; links and folders in it are left out."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        left = MOST_REPORT * 4
        for number, member in enumerate(archive):
            path = PurePosixPath(member.name)
            left -= member.size
            if number > MOST_FILES or left < 0:
                raise ValueError("more than a report has")
            source = archive.extractfile(member) if member.isfile() and len(path.parts) == 1 else None
            if source is not None and path.name not in {"", ".", ".."}:
                (folder / path.name).write_bytes(source.read())


def _json(done: CompletedCommand) -> dict[str, Any] | None:
    """The JSON object that a command printed as its last line; None if there is none."""
    for line in reversed(done.out.splitlines()):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return None


def _last_word(done: CompletedCommand) -> str:
    """The line of a session that says how it ended: its status and sentence with the first reason, or an error's."""
    text = f"{done.out}\n{done.err}"
    begins = "|".join([*(f"{each}  " for each in Status), "LOCKED", "ERROR:", "cutover:"])
    ends = [*re.finditer(rf"^(?:{begins}).*", text, re.MULTILINE)]
    if not ends:
        return done.last_line
    why = re.search(r"^  why   (.*(?:\n {8}.*)*)", text[ends[-1].end() :], re.MULTILINE)
    return " ".join(f"{ends[-1][0]} {why[1] if why else ''}".split())

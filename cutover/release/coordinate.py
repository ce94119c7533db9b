"""Run a release on several hosts over ssh: ask them side by side, or one by one for a revert. `hosts.py` decides."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shlex
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from cutover import __version__
from cutover.core.config import Settings
from cutover.core.config_schema import Hosts
from cutover.core.errors import ConfigError, Locked
from cutover.core.result import INCONCLUSIVE, OK
from cutover.core.target import ReleaseRequest
from cutover.core.text import duration
from cutover.core.verdict import Outcome
from cutover.release.hosts import (
    HostAction,
    HostFacts,
    HostPhase,
    HostsEnd,
    HostsPlan,
    HostState,
    HostStep,
    host_state,
    judge_end,
    next_action,
    preflight_problems,
    taken_by,
    way_to_revert,
)
from cutover.system import process
from cutover.system.process import CompletedCommand
from cutover.system.ssh import SshHost, agent_environment, in_folder, tied, unreached

ASK_DEADLINE_S = 60.0
SILENT_S = 60.0
"""How long a host that does not answer is asked again at the end."""
ASK_AGAIN_S = 1.0
REVERT_DEADLINE_S = 900.0
RENEW_S = 40.0
SESSION_MARGIN_S = 120.0
MOST_REPORT = 50_000_000
MOST_FILES = 200
LAST_MOMENT_S = 3.0
"""How long before its deadline a release is no longer confirmed."""


@dataclass(frozen=True, slots=True)
class HostsRequest:
    """The release on several hosts: what, where, and the words that each host's session gets."""

    settings: Settings
    plan: HostsPlan
    id: str
    who: str
    options: tuple[str, ...]
    """Further options of `cutover release` on each host."""

    @property
    def table(self) -> Hosts:
        """`[hosts]`, which the plan was made of."""
        if self.settings.hosts is None:
            raise ConfigError(f"{self.settings.source} has no [hosts]")
        return self.settings.hosts

    @property
    def ssh_config(self) -> Path | None:
        """The configuration file of ssh; None: its own."""
        table = self.settings.hosts
        return table.ssh_config if table else None

    @property
    def what(self) -> str:
        """`sha-2 to web-1 and web-2`."""
        return f"{self.plan.tag} to {self.plan.where}"

    def script(self, *words: str, phase: str = "") -> str:
        """The line of shell that runs `cutover` with *words* on a host."""
        reports = {"CUTOVER_REPORTS": f"{self.reports}/{phase}"} if phase else {}
        return in_folder(self.table.path, "cutover", *words, CUTOVER_WHO=self.who, **reports)

    @property
    def reports(self) -> str:
        """The folder of this release's reports on each host."""
        return f"{self.table.path.rstrip('/')}/reports/hosts-{self.id}"

    def session(self, phase: HostPhase, watch_s: float) -> str:
        """The session of a phase on a host; it ends in order if its connection or the coordinator ends."""
        words: tuple[str, ...] = ("release", self.plan.tag, "--stage")
        if phase is HostPhase.SWITCH:
            holds = (f"--watch={watch_s:g}s", f"--hold={self.plan.hold_s:g}s")
            words = ("release", self.plan.tag, "--staged", *holds)
        return tied(self.script(*words, *self.options, phase=phase))


def host_options(request: ReleaseRequest, tests: Sequence[str]) -> tuple[str, ...]:
    """The options of `cutover release` by which a host does what *request* asks for, with the checklists *tests*."""
    flags = {
        "--allow-no-rollback": request.allow_no_rollback,
        "--skip-migrations": not request.migrate,
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
    """Why the hosts are reverted; empty if they are not."""
    _held_since: float | None = None
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
        with ThreadPoolExecutor(len(self.plan.hosts)) as pool:
            found = [*pool.map(self._ask_first, self.plan.hosts)]
        if taken := taken_by(found):
            raise Locked(taken)
        digest = hashlib.sha256(self.request.settings.source.read_bytes()).hexdigest()
        if problems := preflight_problems(found, __version__, digest):
            raise ConfigError("\n".join(problems))
        self.facts = {each.host: each for each in found}
        self.before = {each.host: each.state for each in found}

    def _ask_first(self, host: str) -> HostFacts:
        done = self.hosts[host].run(self.request.script("lease", "--json"), deadline_s=ASK_DEADLINE_S)
        facts = _json(done)
        if (
            problem := unreached(done)
            or (facts is None and f"`cutover` does not run there: {done.last_line}")
            or ""
        ):
            return HostFacts(host, problem=problem)
        facts, lease = facts or {}, ""
        if found := facts.get("lease"):
            lease = f"{found.get('who')} is releasing {found.get('what')}"
        state = self._ask(host)
        given = {key: str(facts.get(name) or "") for key, name in
                 (("version", "version"), ("config", "config"), ("folder", "state"))}  # fmt: skip
        return HostFacts(host, lease=lease, state=state, problem=state.silent, **given)

    def _ask(self, host: str) -> HostState:
        done = self.hosts[host].run(self.request.script("status", "--json"), deadline_s=ASK_DEADLINE_S)
        facts = _json(done)
        if facts is None:
            return HostState(silent=unreached(done) or done.last_line)
        return host_state(facts)

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Have all hosts while the body runs; raises Locked, with none of them taken, if another release has one."""
        taken: list[str] = []
        ended = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(ended,), daemon=True)
        try:
            # In one order for all, so that of two coordinators one gets all hosts.
            for host in sorted(self.plan.hosts):
                done = self._claim(host)
                if not done.ok:
                    facts = _json(done) or {}
                    raise Locked(f"{host}: {facts.get('taken') or unreached(done) or done.last_line}")
                taken.append(host)
            renewing.start()
            yield
        finally:
            ended.set()
            with ThreadPoolExecutor(len(self.plan.hosts)) as pool:
                pool.map(self._give_back, taken)

    def _claim(self, host: str) -> CompletedCommand:
        script = self.request.script("lease", self.request.id, f"--what={self.request.what}", "--json")
        return self.hosts[host].run(script, deadline_s=ASK_DEADLINE_S)

    def _give_back(self, host: str) -> None:
        self.hosts[host].run(
            self.request.script("lease", self.request.id, "--end"), deadline_s=ASK_DEADLINE_S
        )

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(RENEW_S):
            with ThreadPoolExecutor(len(self.plan.hosts)) as pool:
                pool.map(self._claim, self.plan.hosts)

    # --- the release --------------------------------------------------------------------------------------------
    def run(self) -> HostsEnd:
        """Stage, switch batch by batch, confirm; or revert. Then ask each host what it serves."""
        while action := next_action(self.plan, self.steps, self._left_s, interrupted=self.interrupted):
            match action.phase:
                case HostPhase.CONFIRM:
                    self._confirm(action)
                case HostPhase.REVERT:
                    self._revert(action)
                case _:
                    self._sessions(action)
        with ThreadPoolExecutor(len(self.plan.hosts)) as pool:
            after = dict(zip(self.plan.hosts, pool.map(self._ask, self.plan.hosts), strict=True))
        return judge_end(
            self.plan,
            self.steps,
            self.before,
            after,
            reverted_for=self.reverted_for,
            interrupted=self.interrupted,
        )

    @property
    def _left_s(self) -> float:
        """How long the first hold still lasts."""
        since = self.clock() if self._held_since is None else self._held_since
        return self.plan.hold_s - (self.clock() - since)

    def interrupt(self) -> None:
        """End the sessions on the hosts, in order, and revert what was switched; from any thread."""
        if not self._final:
            self.interrupted = True
            self._end_sessions()

    def _end_sessions(self) -> None:
        with self._mutex:
            self._ending = True
            for lifeline in self._lifelines:
                os.close(lifeline)
            self._lifelines.clear()

    def _note(self, step: HostStep, folder: Path | None = None) -> None:
        self.steps.append(step)
        self.told(HostReport(step, folder, self.before[step.host].idle))

    def _sessions(self, action: HostAction) -> None:
        """The sessions of a phase, side by side; the first one that is not good ends the others."""
        self._ending = self.interrupted
        with ThreadPoolExecutor(len(action.hosts)) as pool:
            waiting: set[Future[HostReport]] = {
                pool.submit(self._session, host, action.phase, action.watch_s) for host in action.hosts
            }
            while waiting:
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for each in ended:
                    report = each.result()
                    self._note(report.step, report.folder)
                    if report.step.outcome is not Outcome.YES:
                        self._end_sessions()

    def _session(self, host: str, phase: HostPhase, watch_s: float) -> HostReport:
        begun = self.clock()
        if phase is HostPhase.SWITCH and self.request.table.leave:
            step = self._switched_out_of_the_balancer(host, watch_s)
        else:
            step = self._judged(host, phase, self._tied(host, phase, watch_s))
        return HostReport(replace(step, seconds=self.clock() - begun), self._fetch(host, phase))

    def _tied(self, host: str, phase: HostPhase, watch_s: float) -> CompletedCommand:
        reads, writes = os.pipe()
        with self._mutex:
            if self._ending:
                os.close(writes)
            else:
                self._lifelines.add(writes)
        deadline_s = self.request.settings.release_timeout + SESSION_MARGIN_S
        try:
            return self.hosts[host].run(
                self.request.session(phase, watch_s), deadline_s=deadline_s, stdin=reads
            )
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
            outcome = Outcome.UNKNOWN if done.code == INCONCLUSIVE else Outcome.NO
            # A session that was ended because of another host says nothing about its own.
            outcome = Outcome.NOT_ASKED if self._ending and done.code not in {1, INCONCLUSIVE} else outcome
            return HostStep(host, phase, outcome, said, done.code)
        state = self._ask(host)
        if state.silent:
            return HostStep(host, phase, Outcome.UNKNOWN, f"it passed, and then: {state.silent}", done.code)
        there = state.hold_tag if phase is HostPhase.SWITCH else state.idle_tag
        if there != self.plan.tag:
            what = "holds" if phase is HostPhase.SWITCH else "has on its idle color"
            return HostStep(
                host, phase, Outcome.NO, f"it {what} {there or 'nothing'}, not {self.plan.tag}", done.code
            )
        if phase is HostPhase.SWITCH:
            with self._mutex:
                self._held_since = self.clock() if self._held_since is None else self._held_since
        return HostStep(host, phase, Outcome.YES, said, done.code)

    # --- the balancer -------------------------------------------------------------------------------------------
    def _switched_out_of_the_balancer(self, host: str, watch_s: float) -> HostStep:
        """Take the host out, begin its session, and put it back as soon as it has switched: users are watched then."""
        table, problem = self.request.table, ""
        seen = self._switches(host)
        left = self._own(table.leave, host)
        if not left.ok:
            self._own(table.join, host)
            return HostStep(host, HostPhase.SWITCH, Outcome.NO, f"leave: {left.last_line}", left.code)
        with ThreadPoolExecutor(1) as pool:
            session = pool.submit(self._tied, host, HostPhase.SWITCH, watch_s)
            while not session.done() and self._switches(host) <= seen:
                time.sleep(ASK_AGAIN_S)
            # Also the undo of `leave`, if the session ended without a switch.
            for name, words in (("join", table.join), ("status", table.status)):
                done = self._own(words, host) if words and not problem else None
                problem = f"{name}: {done.last_line}" if done is not None and not done.ok else problem
            step = self._judged(host, HostPhase.SWITCH, session.result())
        if problem and step.outcome is Outcome.YES:
            return replace(step, outcome=Outcome.NO, said=problem)
        return step

    def _switches(self, host: str) -> int:
        """How many switches the journal of the host has."""
        script = f'grep -c \'"did".*"switch"\' {shlex.quote(self.facts[host].folder)}/journal.jsonl'
        said = self.hosts[host].run(script, deadline_s=ASK_DEADLINE_S).out.strip()
        return int(said) if said.isdigit() else 0

    def _own(self, words: Sequence[str], host: str) -> CompletedCommand:
        filled = [each.replace("{host}", host) for each in words]
        cwd = str(self.request.settings.source.parent)
        return process.run(filled, deadline_s=ASK_DEADLINE_S, environment={**os.environ}, cwd=cwd)

    # --- confirm and revert -------------------------------------------------------------------------------------
    def _confirm(self, action: HostAction) -> None:
        """Confirm on all hosts, by one process that goes on alone if this one is killed."""
        self._final = True
        with ThreadPoolExecutor(len(action.hosts)) as pool:
            states = dict(zip(action.hosts, pool.map(self._ask, action.hosts), strict=True))
        lost = [host for host, state in states.items() if state.hold_tag != self.plan.tag]
        if lost:
            for host in lost:
                self._note(
                    HostStep(host, HostPhase.CONFIRM, Outcome.UNKNOWN, f"not confirmed: {states[host].text}")
                )
            return
        begun, left_s = self.clock(), max(0.0, self._left_s - LAST_MOMENT_S)
        answers = self.folder / "confirm"
        answers.mkdir(exist_ok=True)
        argvs = {
            host: self.hosts[host].argv(self.request.script("confirm", states[host].hold, "--json"))
            for host in action.hosts
        }
        process.run(
            ("sh", "-c", confirm_script(argvs, answers, left_s)),
            deadline_s=left_s + ASK_DEADLINE_S,
            environment=agent_environment(),
        )
        for host in action.hosts:
            self._note(_confirmed(host, answers, self.clock() - begun))

    def _revert(self, action: HostAction) -> None:
        """Roll the hosts back one by one, in the order of *action*; each is asked afterwards."""
        self._final, self.reverted_for = True, action.why
        for host in action.hosts:
            begun = self.clock()
            step = self._rolled_back(host)
            self._note(replace(step, seconds=self.clock() - begun))

    def _rolled_back(self, host: str) -> HostStep:
        before, patience = self.before[host], self.clock() + SILENT_S
        state = self._ask(host)
        while way_to_revert(before, state) == "wait" and self.clock() < patience:
            if not state.silent:  # it reverts by itself, which may take its time
                patience = max(patience, self.clock() + ASK_AGAIN_S * 2)
            time.sleep(ASK_AGAIN_S)
            state = self._ask(host)
        if state.silent:
            left = duration(max(0.0, self._left_s))
            why = f"{state.silent}; unless it was confirmed, it reverts by itself within {left}"
            return HostStep(host, HostPhase.REVERT, Outcome.UNKNOWN, why)
        if way_to_revert(before, state) == "nothing":
            return HostStep(host, HostPhase.REVERT, Outcome.YES, f"{state.text}, as before")
        done = self.hosts[host].run(self.request.script("rollback"), deadline_s=REVERT_DEADLINE_S)
        now = self._ask(host)
        good = way_to_revert(before, now) == "nothing"
        said = (
            f"{now.text}, as before" if good else f"{now.text}; rollback: {unreached(done) or done.last_line}"
        )
        return HostStep(host, HostPhase.REVERT, Outcome.YES if good else Outcome.NO, said, done.code)

    # --- reports ------------------------------------------------------------------------------------------------
    def _fetch(self, host: str, phase: HostPhase) -> Path | None:
        """The files of the host's own report, copied beside ours; None if they could not be fetched."""
        folder = self.folder / host / phase
        try:
            content = self.hosts[host].fetch(
                f"{self.request.reports}/{phase}/latest/", most=MOST_REPORT, deadline_s=ASK_DEADLINE_S
            )
            folder.mkdir(parents=True, exist_ok=True)
            unpack(content, folder)
        except (OSError, tarfile.TarError, EOFError, ValueError):
            return None
        return folder


def confirm_script(argvs: Mapping[str, Sequence[str]], answers: Path, left_s: float) -> str:
    """The shell script that runs all *argvs* at once, each again while ssh does not reach its host, for *left_s*.

    Output and exit code of each go to HOST.out and HOST.code in the folder *answers*.
    """
    lines = [f"end=$(($(date +%s) + {int(left_s)}))"]
    for host, argv in argvs.items():
        out, code = (shlex.quote(str(answers / f"{host}.{kind}")) for kind in ("out", "code"))
        again = '[ "$c" -ne 255 ] || [ "$(date +%s)" -ge "$end" ]'
        ask = f"{shlex.join(argv)} >{out} 2>&1 </dev/null; c=$?"
        lines.append(
            f'{{ while :; do {ask}; if {again}; then break; fi; sleep 1; done; echo "$c" >{code}; }} &'
        )
    return "\n".join([*lines, "wait"])


def _confirmed(host: str, answers: Path, seconds: float) -> HostStep:
    code, said = None, "no answer"
    with contextlib.suppress(OSError, ValueError):
        said = (answers / f"{host}.out").read_text(encoding="utf-8", errors="replace").strip()
        code = int((answers / f"{host}.code").read_text(encoding="utf-8"))
    if code == OK:
        return HostStep(host, HostPhase.CONFIRM, Outcome.YES, "confirmed", code, seconds)
    done = CompletedCommand(("ssh",), 255 if code is None else code, "", said)
    silence = unreached(done)
    outcome = Outcome.UNKNOWN if silence else Outcome.NO
    return HostStep(host, HostPhase.CONFIRM, outcome, silence or done.last_line, code, seconds)


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
    """The line of a session that says how it ended: its status and sentence, or the one line of an error."""
    words = (
        "RELEASED",
        "HELD",
        "ROLLED BACK",
        "ROLLBACK FAILED",
        "GATE ",
        "INCONCLUSIVE",
        "LOCKED",
        "ERROR:",
        "cutover:",
    )
    lines = [line.strip() for line in f"{done.out}\n{done.err}".splitlines() if line.startswith(words)]
    return " ".join(lines[-1].split()) if lines else done.last_line

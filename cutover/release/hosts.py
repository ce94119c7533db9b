"""A release on several hosts: what each host has answered, what is done next, how it ends. Values in, values out."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from cutover.core.config import CONFIG_PATHS, HOLD_MARGIN_S, Settings
from cutover.core.config_schema import batch_sizes
from cutover.core.errors import ConfigError
from cutover.core.result import FAILED, INCONCLUSIVE, INTERRUPTED, NEEDS_OPERATOR, OK, Status
from cutover.core.text import count, duration, join_list, quoted
from cutover.core.verdict import Outcome
from cutover.release.plan import APPROVED_TAG
from cutover.system.ssh import in_folder

SESSION_INTERRUPTED = "the session was interrupted"


class HostPhase(StrEnum):
    """What is asked of a host, in this order."""

    STAGE = "stage"
    """Deploy to the idle color and gate it there; no user sees it."""
    SWITCH = "switch"
    """Switch, watch, and hold."""
    CONFIRM = "confirm"
    REVERT = "revert"


@dataclass(frozen=True, slots=True)
class HostBatch:
    """Hosts that are switched side by side, and how long they are watched."""

    hosts: tuple[str, ...]
    watch_s: float


@dataclass(frozen=True, slots=True)
class HostsPlan:
    """What is released where: the batches in their order, and how long a switched host waits for the others."""

    tag: str
    batches: tuple[HostBatch, ...]
    hold_s: float
    drain_s: float = 0.0
    project: str = "the service"
    migrate_on: Literal["first", "all", "none"] = "all"
    """Where the migration runs when a release is staged."""
    path: str = ""
    """The folder in which `cutover` is run on each host."""
    ssh_config: Path | None = None
    """The configuration file of ssh; None: its own."""
    config: str = ""
    """The name of cutover.toml there; empty for one that `cutover` finds by itself."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts, in the order in which they are switched."""
        return tuple(host for batch in self.batches for host in batch.hosts)

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Groups of hosts, staged one after another: all at once, or first the host that migrates, then the rest."""
        first, rest = self.hosts[:1], self.hosts[1:]
        return (first, rest) if rest and self.migrate_on == "first" else (self.hosts,)

    def migrates(self, action: HostAction) -> bool:
        """Whether the sessions of *action* migrate the database."""
        first = self.migrate_on == "first" and action.hosts == self.stages[0]
        return self.migrate_on == "all" or (first and action.phase is HostPhase.STAGE)

    @property
    def where(self) -> str:
        """`web-1, web-2 and web-3`."""
        return join_list(self.hosts)

    def script(self, *words: str, **environment: str) -> str:
        """The line of shell that runs `cutover` with *words* on a host."""
        named = {"CUTOVER_CONFIG": self.config} if self.config else {}
        return in_folder(self.path, "cutover", *words, **named, **environment)

    def by_hand(self, host: str, *words: str) -> str:
        """The command by which a person runs the same on *host* from here."""
        config = ("-F", str(self.ssh_config)) if self.ssh_config else ()
        return shlex.join(("ssh", *config, host, self.script(*words)))


@dataclass(frozen=True, slots=True)
class HostStep:
    """What a host answered to one phase."""

    host: str
    phase: HostPhase
    outcome: Outcome
    said: str
    """One line: the last one of the host, or why it was not reached."""
    code: int | None = None
    """The exit code there; None if the host gave none."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class HostState:
    """What a host serves, by `cutover status --json`."""

    live: str = ""
    tag: str = ""
    idle: str = ""
    idle_tag: str = ""
    hold: str = ""
    """The id of the release that waits for its confirmation."""
    hold_tag: str = ""
    busy: str = ""
    """Why nothing can be asked of it now: a session runs, or a release is open and not held."""
    operator: str = ""
    silent: str = ""
    """Why it could not be asked."""
    runs: bool = True
    """Whether the container of the live color runs."""
    way_out: str = ""
    """The command for what an operator is needed for, run here; empty for `cutover status` on the host."""
    unasked: str = ""
    """Why the container of a color, first of the live one, could not be asked: the host answers, not its engine."""

    @property
    def text(self) -> str:
        """`green serves sha-2`."""
        operator = f"; an operator is needed: {self.operator}" if self.operator else ""
        if self.silent:
            return f"could not be asked: {self.silent}{operator}"
        serves = f"{self.live} serves {self.tag}" if self.live and self.tag else "what it serves is not known"
        if self.unasked and not self.tag:
            serves = self.unasked
        if self.tag and not self.runs:
            serves = f"traffic goes to {self.live}, where {self.tag} does not run"
        held = " (held)" if self.hold else ""
        busy = f"; {self.busy}" if self.busy and not self.operator else ""
        return f"{serves}{held}{busy}{operator}"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What a host said before the release: its package, its cutover.toml, its state."""

    host: str
    version: str = ""
    config: str = ""
    """The digest of its cutover.toml."""
    folder: str = ""
    """Its state directory."""
    lease: str = ""
    """Who has it for another release on several hosts; empty if nobody."""
    state: HostState = HostState()
    problem: str = ""
    """Why it could not be asked."""


@dataclass(frozen=True, slots=True)
class HostAction:
    """What is done next: a phase on these hosts; a revert goes through them one by one, in this order."""

    phase: HostPhase
    hosts: tuple[str, ...]
    watch_s: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class HostRow:
    """One host in the report."""

    host: str
    outcome: str
    """`yes`, `no`, `unknown` or `not asked`."""
    text: str
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class HostsEnd:
    """How a release on several hosts ended."""

    status: Status
    exit_code: int
    sentence: str
    why: tuple[tuple[str, str], ...] = ()
    """Host (empty: none of them) and reason of what went wrong."""
    command: str = ""
    rows: tuple[HostRow, ...] = ()


# --- before anything is changed ----------------------------------------------------------------------------------
def chosen_hosts(given: str, settings: Settings) -> tuple[str, ...]:
    """The hosts of `--hosts=all|NAME,…`, in the order of `[hosts] names`; raises ConfigError."""
    if settings.hosts is None:
        raise ConfigError(f"--hosts: {settings.source} has no [hosts]: add names and path")
    names, known = [each.strip() for each in given.split(",")], settings.hosts.names
    if names == ["all"]:
        return known
    unknown = next((each for each in names if each not in known), None)
    if unknown is not None:
        allowed = f"[hosts] has {', '.join(known)}, or say all"
        raise ConfigError(f"--hosts: unknown host {quoted(unknown)}; {allowed}")
    return tuple(each for each in known if each in names)


def plan_hosts(
    settings: Settings,
    hosts: Sequence[str],
    tag: str,
    *,
    watch_s: float | None = None,
    hold_s: float | None = None,
    migrate: bool = True,
) -> HostsPlan:
    """The plan of a release of *tag* on *hosts*; raises ConfigError if the hold is shorter than the watches."""
    table = settings.hosts
    if table is None:
        raise ConfigError(f"--hosts: {settings.source} has no [hosts]: add names and path")
    watches, hold = settings.watches(len(hosts), watch_s), table.hold if hold_s is None else hold_s
    if problem := settings.hold_problem(hold, watches):
        raise ConfigError(f"{'hosts.hold' if hold_s is None else '--hold'}: {problem}")
    rest, batches = list(hosts), []
    for size, watch in zip(batch_sizes(table.batches, len(hosts)), watches, strict=True):
        batches.append(HostBatch(tuple(rest[:size]), watch))
        del rest[:size]
    drain_s = settings.proxy.drain_timeout if settings.proxy else 0.0
    migrates = settings.migrate is not None or settings.snapshot.enabled
    migrate_on = (table.migrate_on or ("first" if migrates else "all")) if migrate else "none"
    return HostsPlan(
        tag, tuple(batches), hold, drain_s, settings.project, migrate_on, table.path, table.ssh_config
    )


def require_approved(settings: Settings, tag: str, given: str | None) -> None:
    """Raise ConfigError if `[approval]` is required and *given* is not *tag*: hosts have no terminal to ask at."""
    if settings.approval.required and given != tag:
        said = "is not set" if given is None else f"approves {given or 'nothing'}"
        way_out = f"{APPROVED_TAG}={tag} approves the switch on all hosts"
        why = f"a host has no terminal, and {APPROVED_TAG} {said}"
        raise ConfigError(f"[approval] required: {why}: {way_out}")


def config_name(source: Path, here: Path) -> str:
    """What the file *source*, read in the folder *here*, is called in that folder of a host; empty for a default one.

    Of a file elsewhere it is the name alone.
    """
    name = str(source.relative_to(here.resolve()) if source.is_relative_to(here.resolve()) else source.name)
    # A host finds the first one that is there by itself, as a command here does.
    first = next((each for each in CONFIG_PATHS if (here / each).is_file()), name)
    return "" if name in CONFIG_PATHS and name in {first, CONFIG_PATHS[0]} else name


def host_state(facts: Mapping[str, Any]) -> HostState:
    """The state of a host by the JSON of its `cutover status`."""
    colors, live = facts.get("colors") or {}, facts.get("live") or ""
    idle = next((each for each in sorted(colors) if each != live), "") if live else ""
    hold, owner, left = facts.get("hold") or {}, facts.get("releasing"), facts.get("open")
    busy = ""
    if owner:
        busy = f"{owner.get('who')} is releasing {owner.get('what')} since {owner.get('since')}"
    elif left and not hold:
        busy = f"release {left} is open"
    rows = {color: row or {} for color, row in colors.items()}
    tags = {color: str(row.get("tag") or "") for color, row in rows.items()}
    unasked = [str(rows[each]["state"]) for each in (live, idle) if rows.get(each, {}).get("asked") is False]
    return HostState(
        live=live,
        tag=tags.get(live, ""),
        idle=idle,
        idle_tag=tags.get(idle, ""),
        hold=str(hold.get("release") or ""),
        hold_tag=str(hold.get("tag") or ""),
        busy=busy,
        operator=str(facts.get("needs_operator") or facts.get("problem") or ""),
        runs=bool(rows.get(live, {}).get("runs")),
        unasked=next(iter(unasked), ""),
    )


def host_facts(host: str, status: Mapping[str, Any] | None, silence: str) -> HostFacts:
    """What a host said, by the JSON of its `cutover status`; without one it is *silence*."""
    if status is None:
        return HostFacts(host, problem=silence)
    lease = status.get("lease") or {}
    return HostFacts(
        host,
        version=str(status.get("version") or "of another kind"),
        config=str(status.get("config") or ""),
        folder=str(status.get("state") or ""),
        lease=str(lease.get("said") or ""),
        state=host_state(status),
    )


def taken_by(found: Iterable[HostFacts]) -> str:
    """Which other release has one of the hosts, in one line; empty if none has."""
    for each in found:
        held = f"release {each.state.hold} of {each.state.hold_tag} is held" if each.state.hold else ""
        session = each.state.busy if " is releasing " in each.state.busy else ""
        if said := each.lease or held or session:
            return f"{each.host}: {said.partition('; ')[0]}; nothing was changed"
    return ""


def preflight_problems(
    plan: HostsPlan, found: Sequence[HostFacts], version: str, config: str
) -> tuple[str, ...]:
    """Everything for which a release on these hosts is refused, one line each."""
    return tuple(f"{each.host}: {line}" for each in found for line in _problems(plan, each, version, config))


def _problems(plan: HostsPlan, facts: HostFacts, version: str, config: str) -> Iterable[str]:
    status = f"run: {plan.by_hand(facts.host, 'status')}"
    if facts.problem:
        yield facts.problem
        return
    if facts.version != version:
        yield f"it has pytest-cutover {facts.version}, here is {version}; install the same version on all"
    elif facts.config != config:
        yield "its cutover.toml is another one than here; bring the same file to all hosts"
    if facts.state.operator:
        yield f"an operator is needed there first: {facts.state.operator}; {status}"
    elif facts.state.busy:
        yield f"{facts.state.busy}; run: {plan.by_hand(facts.host, 'recover')}"
    elif not (facts.state.live and facts.state.tag and facts.state.runs):
        yield f"{facts.state.text}, so nothing could be reverted to; {status}"


# --- what is next ------------------------------------------------------------------------------------------------
def next_action(
    plan: HostsPlan, steps: Sequence[HostStep], left_s: float, *, interrupted: bool = False
) -> HostAction | None:
    """What is done after *steps*; None at the end. *left_s* is how long the first hold still lasts."""
    done = {phase: {each.host for each in steps if each.phase is phase} for phase in HostPhase}
    if done[HostPhase.REVERT]:
        return None
    bad = not_good(steps)
    if bad or interrupted:
        why = f"{bad[0].host}: {bad[0].said}" if bad else SESSION_INTERRUPTED
        return _revert(plan, steps, why)
    for hosts in plan.stages:
        if not done[HostPhase.STAGE].issuperset(hosts):
            return HostAction(HostPhase.STAGE, hosts)
    for batch in plan.batches:
        if done[HostPhase.SWITCH].issuperset(batch.hosts):
            continue
        needed = batch.watch_s + plan.drain_s + HOLD_MARGIN_S
        if done[HostPhase.SWITCH] and left_s < needed:
            why = f"the hold of the first host ends in {duration(max(0.0, left_s))}, before the next batch is watched"
            return _revert(plan, steps, why)
        return HostAction(HostPhase.SWITCH, batch.hosts, batch.watch_s)
    return None if done[HostPhase.CONFIRM] else HostAction(HostPhase.CONFIRM, plan.hosts)


def not_good(steps: Iterable[HostStep]) -> list[HostStep]:
    """The steps that end the release; not those that were ended because of another one."""
    return [each for each in steps if each.outcome in {Outcome.NO, Outcome.UNKNOWN}]


def _revert(plan: HostsPlan, steps: Sequence[HostStep], why: str) -> HostAction | None:
    """Revert the switched hosts, the last one first; those that did not answer come last: the others do not wait."""
    last = {each.host: each for each in steps if each.phase is not HostPhase.STAGE}
    silent = {host for host, each in last.items() if each.outcome is Outcome.UNKNOWN and each.code is None}
    hosts = [host for host in reversed(plan.hosts) if host in last]
    hosts.sort(key=silent.__contains__)
    return HostAction(HostPhase.REVERT, tuple(hosts), why=why) if hosts else None


def way_to_revert(before: HostState, now: HostState) -> Literal["nothing", "roll back", "wait"]:
    """What a host that was switched needs to be as before: nothing, `cutover rollback`, or time to revert by itself.

    Where the traffic is back but the release has stopped since, or cannot be asked, a rollback would go one release
    further back.
    """
    if now.silent or (now.busy and not now.operator):
        return "wait"
    tag = now.tag or (before.tag if now.unasked else "")
    return "nothing" if as_before(before, replace(now, tag=tag, runs=True)) else "roll back"


def as_before(before: HostState, now: HostState) -> bool:
    """Whether a host serves what it served before, and nothing is open there."""
    return (
        (before.live, before.tag) == (now.live, now.tag)
        and bool(now.tag)
        and now.runs
        and not (now.silent or now.hold or now.busy or now.operator)
    )


# --- the end -----------------------------------------------------------------------------------------------------
def judge_end(
    plan: HostsPlan,
    steps: Sequence[HostStep],
    before: Mapping[str, HostState],
    after: Mapping[str, HostState],
    *,
    reverted_for: str = "",
    ended_with: int = OK,
) -> HostsEnd:
    """How the release ended, by what each host answered and by what it serves when it is asked at the end.

    *reverted_for* is why the release was ended, if no step of a host says it; *ended_with* is the exit code of one that
    was interrupted, or that an error of the coordinator itself has ended.
    """
    good = [each for each in steps if each.outcome is Outcome.YES]
    confirmed = {each.host for each in good if each.phase is HostPhase.CONFIRM}
    reverted = any(each.phase is HostPhase.REVERT for each in steps)
    switched = {each.host for each in steps if each.phase is HostPhase.SWITCH}
    released = not reverted and confirmed == {*plan.hosts}
    bad = [each for each in not_good(steps) if each.phase is not HostPhase.REVERT]
    last = {each.host: each for each in steps}

    def is_right(host: str) -> bool:
        now = after[host]
        if now.operator or (host in last and last[host].code == NEEDS_OPERATOR):
            return False  # also one that was only staged: its database may be migrated
        if released:  # it said that it serves it when it confirmed
            unasked = now.unasked and not now.tag and not now.hold and now.live != before[host].live
            return bool(now.silent or unasked) or _serves(now, plan.tag)
        return host not in switched or as_before(before[host], now)

    wrong = [host for host in plan.hosts if not is_right(host)]
    silent = [host for host, now in after.items() if now.silent or (now.unasked and not now.tag)]
    unsure = {*wrong, *silent}
    rows = tuple(_row(host, steps, before[host], after[host], host in unsure) for host in plan.hosts)
    why = tuple((each.host, f"{each.phase}: {each.said}") for each in bad)
    why = why or ((("", reverted_for),) if reverted_for else ())
    if wrong:
        told = join_list([f"{host} {after[host].text}" for host in wrong])
        sentence = f"an operator is needed. Right now: {told}."
        command = after[wrong[0]].way_out or plan.by_hand(wrong[0], "status")
        return HostsEnd(Status.ROLLBACK_FAILED, NEEDS_OPERATOR, sentence, why, command, rows)
    if released:
        sentence = f"{plan.project} runs {plan.tag} on {count(len(plan.hosts), 'host')}: {plan.where}."
        for host in silent:
            sentence += f" {host} confirmed it, and since then {after[host].text}."
        return HostsEnd(Status.RELEASED, OK, sentence, (), "", rows)
    failed = not bad or any(each.outcome is Outcome.NO for each in bad)
    code = ended_with or (FAILED if failed else INCONCLUSIVE)
    if not switched:
        status = Status.GATE_FAILED if code == FAILED else Status.INCONCLUSIVE
        ended = SESSION_INTERRUPTED if ended_with == INTERRUPTED else "the session broke"
        if bad:
            ended = f"{plan.tag} did not pass on {join_list(sorted({each.host for each in bad}))}"
        noticed = "" if silent else ", users noticed nothing"
        asked = "".join(f" {host} {after[host].text}." for host in silent)
        sentence = f"no host was switched{noticed}: {ended}.{asked}"
        return HostsEnd(status, code, sentence, why, "", rows)
    told = join_list([f"{host} {after[host].text}" for host in plan.hosts if host in switched])
    kept = [host for host in plan.hosts if host not in switched]
    never = f" {join_list(kept)} never switched." if kept else ""
    return HostsEnd(Status.ROLLED_BACK, code, f"{told}, as before.{never}", why, "", rows)


def _serves(state: HostState, tag: str) -> bool:
    return state.tag == tag and state.runs and not (state.silent or state.hold or state.operator)


def _row(host: str, steps: Sequence[HostStep], before: HostState, now: HostState, unsure: bool) -> HostRow:
    mine = [each for each in steps if each.host == host]
    worst = next(iter(not_good(mine)), mine[-1] if mine else None)
    if worst is None:
        return HostRow(host, "not asked", "nothing was done here", before.text, now.text)
    outcome = "unknown" if unsure and worst.outcome is Outcome.YES else str(worst.outcome)
    return HostRow(host, outcome, f"{worst.phase}: {worst.said}", before.text, now.text)

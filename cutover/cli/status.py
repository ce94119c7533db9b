"""`cutover status`: what runs where, who releases, what is open; `cutover stats`: DORA's four measures of delivery."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import click

from cutover import __version__
from cutover.cli.main import common, settings_of, tell
from cutover.core.config import Settings
from cutover.core.config_schema import parse_duration
from cutover.core.errors import ConfigError, CutoverError, EngineUnavailable
from cutover.core.masking import MASK, printable
from cutover.core.result import INCONCLUSIVE, NEEDS_OPERATOR, NOTHING, OK, USAGE
from cutover.core.text import DAY, clock_of, count, duration, join_list, now, seconds_of, stamp
from cutover.core.verdict import Outcome
from cutover.proxy.base import Live, other
from cutover.release.colors import Colors, ask_live, inspect_colors, label_of, main_container
from cutover.release.history import END_EVENTS, Moment, read_journal, unresolved
from cutover.release.lease import current_lease
from cutover.release.rollback import plan_rollback
from cutover.release.state import State
from cutover.release.verify import ASK_AGAIN, served_after
from cutover.system import docker

ENDS = END_EVENTS | {"retired"}
NOTHING_THERE = frozenset({NOTHING, "no env file", "created", "exited", "dead"})


@click.command("status")
@common
def status_command(config: str | None, as_json: bool) -> int:
    """Show what runs where and what is open.

    Exit 11 if an operator is needed, 4 if a file is invalid, 10 if the live color is not certain or the engine does not
    answer.
    """
    settings = settings_of(config)
    begun = time.monotonic()
    here, problem = None, ""
    try:
        here = inspect_colors(settings)
    except ConfigError as error:
        problem = str(error)  # a bad file must not hide what is open, nor that an operator is needed
    facts = _facts(settings, here, problem)
    facts["cold"] = cold_rollback(facts)
    facts["asked_s"] = round(time.monotonic() - begun, 3)
    tell(as_json, facts, _lines(facts, now()))
    if problem:
        click.echo(printable(f"cutover: {problem}"), err=True)
    return code_of(facts)


def code_of(facts: dict[str, Any]) -> int:
    """11 if an operator is needed, 4 for a file that cannot be read, 10 if the live color is unknown, else 0."""
    if facts["needs_operator"]:
        return NEEDS_OPERATOR
    if facts["problem"] or any(each.get("problem") for each in facts["colors"].values()):
        return USAGE
    silent = any(each["asked"] is False for each in facts["colors"].values())
    runs = any(each["runs"] for each in facts["colors"].values())
    lost = facts["live"] is None and (runs or facts["has_proxy"])
    return INCONCLUSIVE if silent or lost or facts["proxy"] else OK


def _facts(settings: Settings, here: Colors | None, problem: str) -> dict[str, Any]:
    state = State(settings.state)
    proxy = here.proxy if here else None
    agreed = proxy.agreed() if proxy else None
    live = here.live if here else _live_without_files(settings, problem)
    lease = current_lease(state, time.time())
    releasing, hold = state.owner() if state.session_runs() else None, _hold(state)
    waits = releasing is not None or (hold is not None and hold["left_s"] > 0)
    return {
        "version": __version__,
        "config": hashlib.sha256(settings.source.read_bytes()).hexdigest(),
        "state": str(state.root),
        "project": settings.project,
        "problem": problem,
        "has_proxy": settings.proxy is not None,
        "keeps_old": settings.proxy is not None and settings.watch.old_color == "keep",
        "live": live.color,
        "live_how": live.how,
        "fronts": {name: each.color for name, each in proxy.by_front().items()} if proxy else {},
        "proxy": None if agreed is None or agreed.outcome is Outcome.YES else agreed.reason,
        "colors": {color: _color(settings, state, color) for color in settings.colors},
        "open": state.open_release(),
        "releasing": releasing,
        "guard": state.guard_lives(state.open_release() or "-"),
        "guard_said": _guard_said(state),
        "hold": hold,
        "lease": asdict(lease) | {"said": lease.line} if lease else None,
        **_needs_operator(settings, state, here, waits=waits),
        "last": next((row for row in reversed(state.history()) if row.get("event") in ENDS), None),
        "rollback": _rollback_now(state, here) if here and state.root.is_dir() else None,
    }


def _live_without_files(settings: Settings, problem: str) -> Live:
    """The live color, as far as it is known although today's files cannot be rendered for that *problem*."""
    try:
        return ask_live(settings)[1]
    except ConfigError:
        return Live(None, problem)


def _needs_operator(settings: Settings, state: State, here: Colors | None, *, waits: bool) -> dict[str, Any]:
    """Why an operator is needed, the command that leads out, and what came of the last end that needed one.

    There is no command while a session runs or holds its release (*waits*): that release is not what went wrong.
    """
    left, row = state.open_release(), unresolved(state.history())
    given_up = state.needs_operator()
    why = f"the revert of {given_up} was given up" if given_up else None
    if row is None or why:
        run = state.revert_command if left and not waits else None
        return {"needs_operator": why, "run": run, "resolved": None}
    why = str(row.get("why") or "the last release could not be reverted")
    run = str(row.get("run") or ASK_AGAIN)
    if left:
        run = state.revert_command if left == row.get("release") else ASK_AGAIN
    if waits or left or row.get("only_recover") or not row.get("release") or here is None:
        return {"needs_operator": why, "run": None if waits else run, "resolved": None}
    try:
        trouble, said = served_after(settings, state, str(row["release"]), silent_s=0.0)
    except CutoverError:
        # Closed since by the command that was named; else nobody has seen yet that users are served as before.
        same = row.get("run") == ASK_AGAIN
        return {"needs_operator": why if same else None, "run": run if same else None, "resolved": None}
    if trouble:
        return {"needs_operator": trouble, "run": ASK_AGAIN, "resolved": None}
    return {"needs_operator": None, "run": None, "resolved": f"{said}; it ended with 11: {why}"}


def _rollback_now(state: State, here: Colors) -> dict[str, Any]:
    """What `cutover rollback` would do now, and how long it took when it was last rehearsed."""
    try:
        way = plan_rollback(state, here)
    except (ConfigError, EngineUnavailable) as error:
        return {"how": None, "why": str(error)}
    facts: dict[str, Any] = {"how": way.how, "color": way.color, "tag": way.to.tag, "text": way.text}
    last = state.last_rehearsal()
    if last and way.how == "flip":
        facts |= {"seconds": last.get("seconds"), "rehearsed": last.get("at"), "host": last.get("host")}
    return facts


def _hold(state: State) -> dict[str, Any] | None:
    """ID, deadline and holder of the held release, and the commands that end the hold; None without a held release."""
    held, now_is = state.held(), Moment.now()
    if held is None:
        return None
    until = held.until(now_is)
    facts = {"release": held.release, "until": stamp(until), "until_s": until, "left_s": held.left_s(now_is)}
    return facts | held.left.facts | {"said": held.line(now_is), "way_out": held.way_out}


def _guard_said(state: State) -> str:
    """The last line that the guard of the open release wrote; empty before it has begun to revert it."""
    log, begun = state.root / "guard.log", state.root / "open"
    with contextlib.suppress(OSError):
        if log.stat().st_mtime >= begun.stat().st_mtime:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


def _color(settings: Settings, state: State, color: str) -> dict[str, Any]:
    try:
        found = main_container(settings, color)
        elsewhere = [] if found is not None and found.in_use else _nodes_with_tasks(settings, color)
    except EngineUnavailable as error:
        unasked = f"its container could not be asked: {error}"
        return {"tag": None, "asked": False, "runs": False, "state": unasked}
    if elsewhere:
        return {"tag": None, "asked": True, "runs": True, "state": f"runs on {join_list(elsewhere)}"}
    if found is None:
        there = settings.colors[color].env_file.is_file()
        state_now = NOTHING if there else "no env file"
        return {"tag": None, "asked": True, "runs": False, "state": state_now}
    words = found.health_status if found.running and found.health else found.status
    verified, problem = False, ""
    try:
        verified = state.verified_record(color, found) is not None
    except ConfigError as error:
        problem = str(error)  # it must not hide what is open
    return {
        "tag": label_of(found),
        "asked": True,
        "runs": found.running,
        "state": words,
        "since": stamp(seconds_of(found.state_since)),
        "verified": verified,
        "problem": problem,
        "container": found.short,
    }


def _nodes_with_tasks(settings: Settings, color: str) -> list[str]:
    """The nodes of the Swarm where tasks of the main service on *color* run; raises EngineUnavailable."""
    if settings.platform.kind != "swarm":
        return []
    found = docker.swarm_service(f"{settings.compose_project(color)}_{settings.service}")
    return sorted({each.node for each in found.tasks if each.state == "running"}) if found else []


def _lines(facts: dict[str, Any], today: str) -> list[str]:
    rows: list[str] = []
    live, last = facts["live"], facts["last"]
    if facts["needs_operator"]:
        rows.append(f"OPERATOR NEEDED: {MASK(facts['needs_operator'])}; {_way_out(facts)}")
        keep = "  or     keep what runs and end the retries: cutover recover --give-up"
        rows += [keep] if facts["open"] and facts["run"] else []
    rows.append(f"{facts['project']}{'':<30} asked {duration(facts['asked_s'])} ago")
    if live is None:
        rows.append(f"  live   unknown: {facts['live_how']}")
    if facts["proxy"]:
        rows.append(f"  proxy  {facts['proxy']}")
    fronts = {name: color or "an unknown color" for name, color in facts["fronts"].items()}
    rows += [f"  front  {name:<6} sends users to {color}" for name, color in fronts.items()]
    served = live is not None and not _nothing_runs(facts["colors"].get(live))
    if live is not None and not served:
        rows.append(f"  live   nobody is served: traffic would go to {live}, where nothing runs")
    for color in [live, other(live)] if live else sorted(facts["colors"]):
        each = facts["colors"].get(color)
        if each is not None:
            role = ("live" if served else "") if color == live else "idle" if live else ""
            held = bool(facts["hold"]) and facts["hold"]["color"] == color
            rows.append(_row(role, color, each, today, held=held) + _said_back(facts["rollback"], color))
            rows += [f"         {each['problem']}"] if each.get("problem") else []
    if last:
        said = [last["at"], last["event"], last.get("tag"), f"by {last['who']}" if last.get("who") else None]
        rows.append(f"  last   {' '.join(str(each) for each in said if each)}")
    if facts["resolved"]:
        rows.append(f"  since  {MASK(facts['resolved'])}")
    if facts["cold"]:
        rows.append(f"  back   {facts['cold']}")
    rows += [f"  hosts  {MASK(facts['lease']['said'])}"] if facts["lease"] else []
    return [*rows, f"  open   {_open(facts)}"]


def _nothing_runs(row: dict[str, Any] | None) -> bool:
    """Whether it is known that a color has no container that runs, pauses or restarts."""
    return row is None or (row["asked"] and not row["runs"] and row["state"] in NOTHING_THERE)


def cold_rollback(facts: dict[str, Any]) -> str:
    """What became of the old color that a rollback would flip to; empty if it is warm, or was never live."""
    way, live = facts["rollback"], facts["live"]
    if not way or way.get("how") not in {"start", "deploy"} or live is None or not facts["keeps_old"]:
        return ""
    if (facts["last"] or {}).get("event") == "retired":
        return ""
    old = facts["colors"].get(other(live))
    if old is None or old["runs"] or old["asked"] is False:
        return ""
    return f"{other(live)} is not warm ({old['state']}): `cutover rollback` {way['text']}"


def _said_back(way: dict[str, Any] | None, color: str) -> str:
    """` · roll back takes about 2 ms (rehearsed on web-1)`, where a rollback leads to *color*."""
    if not way or way.get("color") != color:
        return ""
    if way["how"] == "flip" and way.get("seconds") is not None:
        where = f" (rehearsed on {way['host']})" if way.get("host") else ""
        return f" · roll back takes about {duration(way['seconds'])}{where}"
    return f" · roll back {way['text']}"


def _row(role: str, color: str, each: dict[str, Any], today: str, *, held: bool) -> str:
    since = f" since {clock_of(each['since'], today)}" if each.get("since") else ""
    state = "held" if held else "verified" if each.get("verified") else "not verified"
    verified = "" if each.get("tag") is None else f", {state}"
    return f"  {role:<5}  {color:<6} {each['tag'] or '':<14} {each['state']}{since}{verified}"


def _way_out(facts: dict[str, Any]) -> str:
    if facts["releasing"] is not None:
        return f"{_session(facts['releasing'])}: wait for its end"
    return f"run: {facts['run']}" if facts["run"] else f"{facts['hold']['said']}: {facts['hold']['way_out']}"


def _session(owner: dict[str, Any]) -> str:
    who, what = owner.get("who", "somebody"), owner.get("what", "(unknown)")
    return f"{who} is releasing {what} since {owner.get('since', '?')}"


def _open(facts: dict[str, Any]) -> str:
    if facts["releasing"] is not None:
        return f"{_session(facts['releasing'])} (pid {facts['releasing'].get('pid', '?')}, alive)"
    if (hold := facts["hold"]) and hold["left_s"] > 0:
        guard = "its guard runs" if facts["guard"] else "NO GUARD RUNS, so run `cutover recover`"
        return f"{hold['said']}; {guard}\n  end    {hold['way_out']}"
    if facts["open"]:
        guard = "no guard lives: run `cutover recover`"
        if facts["guard"]:
            guard = "its guard is reverting it (`cutover recover --give-up` ends that)"
        line = f"release {facts['open']}, its session is gone; {guard}"
        if facts["guard_said"]:
            line += f"\n  guard  {MASK(facts['guard_said'])}\n  run    {facts['run']}"
        return line
    return "nothing · lock free · guard not needed"


# --- cutover stats -------------------------------------------------------------------------------------------
FAILED_ENDS = frozenset({"reverted", "recovered"})
MOST_REASONS = 5


@dataclass(frozen=True, slots=True)
class DeliveryStats:
    """What the journal says of a period; times are medians in seconds, None if nothing was measured."""

    days: float
    """How long the period is; without `--since` from the first release in the journal."""
    released: int
    failed: int
    """Releases that were reverted by themselves, by their guard or by `cutover recover`."""
    rolled_back: int
    """Rollbacks of committed releases."""
    unverified: int
    """Releases that were kept although their gate failed."""
    reasons: tuple[tuple[str, int], ...]
    """Why releases were reverted, the most frequent reason first."""
    failed_requests: int
    """Requests of users that failed in releases which recorded it."""
    releases_per_day: float | None
    change_failure_rate: float | None
    """Reverted, rolled back and unverified ones among all releases."""
    lead_time_s: float | None
    """From the opening of a release to its commit."""
    restore_s: float | None
    """From the opening of a release to its revert."""


def delivery_stats(rows: Sequence[Mapping[str, Any]], since: float, now: float) -> DeliveryStats:
    """Return the measures of the releases that ended between *since* and *now* (seconds since 1970)."""
    begun: dict[str, float] = {}
    ends: list[tuple[float, float | None, Mapping[str, Any]]] = []
    for row in rows:
        at, release = seconds_of(str(row.get("at", ""))), str(row.get("release", ""))
        if not at:
            continue
        begun.setdefault(release, at)
        if row.get("event") in END_EVENTS and since <= at <= now:
            lasted = at - begun[release] if release else None
            ends.append((at, lasted if lasted and lasted > 0 else None, row))
    kinds = Counter(str(row["event"]) for _, _, row in ends)
    failed = sum(kinds[each] for each in FAILED_ENDS)
    tried = kinds["released"] + failed + kinds["kept unverified"]
    first = since or min((at for at, _, _ in ends), default=now)
    days = max(now - first, 1.0) / DAY
    bad = failed + kinds["rolled back"] + kinds["kept unverified"]
    bad_ends = (row for _, _, row in ends if row["event"] in FAILED_ENDS)
    why = Counter(str(row.get("why") or "no reason in the journal") for row in bad_ends)
    return DeliveryStats(
        days=round(days, 2),
        released=kinds["released"],
        failed=failed,
        rolled_back=kinds["rolled back"],
        unverified=kinds["kept unverified"],
        reasons=tuple(why.most_common(MOST_REASONS)),
        failed_requests=sum(
            int(row.get("failed_requests") or 0)
            for row in rows
            if row.get("event") == "end" and since <= seconds_of(str(row.get("at", ""))) <= now
        ),
        releases_per_day=round(kinds["released"] / max(days, 1.0), 2) if tried else None,
        change_failure_rate=round(min(1.0, bad / tried), 3) if tried else None,
        lead_time_s=_median(lasted for _, lasted, row in ends if row["event"] == "released"),
        restore_s=_median(lasted for _, lasted, row in ends if row["event"] in FAILED_ENDS),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return round(median(known), 1) if known else None


def stats_lines(found: DeliveryStats) -> list[str]:
    """The measures as lines of a table."""
    tried = found.released + found.failed + found.unverified
    if not tried and not found.rolled_back:
        return ["no release ended in this period"]

    def shown(seconds: float | None) -> str:
        return "unknown" if seconds is None else duration(seconds)

    rate = "unknown" if found.change_failure_rate is None else f"{found.change_failure_rate:.0%}"
    bad = f"{found.failed} reverted, {found.rolled_back} rolled back later"
    rows = [
        ("period", f"{found.days:g} days, {count(tried, 'release')}"),
        ("deployment frequency", f"{found.releases_per_day or 0:g} a day ({found.released} kept)"),
        ("lead time", f"{shown(found.lead_time_s)}, from the start of a release to its commit"),
        ("change failure rate", f"{rate}: {bad}, {found.unverified} kept unverified"),
        ("time to restore", f"{shown(found.restore_s)}, from the start of a release to its revert"),
        ("failed requests", f"{found.failed_requests:,} of users, as far as recorded"),
    ]  # fmt: skip
    reasons = [f"  {times} × {why}" for why, times in found.reasons]
    return [*(f"{name:<22}{text}" for name, text in rows), *reasons]


@click.command("stats")
@common
@click.option("--since", metavar="DURATION", help="Only the last such time, like 12h or 30d, the longest.")
def stats_command(config: str | None, as_json: bool, since: str | None) -> int:
    """Print DORA's four measures from the journal: frequency, lead time, failure rate, time to restore."""
    now = time.time()
    try:
        begin = now - parse_duration(since) if since is not None else 0.0
    except ValueError as error:
        raise ConfigError(f"--since: {error}") from error
    found = delivery_stats(read_journal(settings_of(config).state), begin, now)
    tell(as_json, asdict(found), stats_lines(found))
    return 0

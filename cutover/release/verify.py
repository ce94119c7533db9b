"""What runs now, and whether it is what ran before a release."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cutover.core.config import Settings
from cutover.core.errors import (
    ConfigError,
    CutoverError,
    EngineUnavailable,
    Failed,
    Inconclusive,
    OperatorNeeded,
)
from cutover.core.result import NOTHING, UNASKED, Running, Status
from cutover.core.verdict import Outcome, Verdict
from cutover.gate.container_checks import describe_exit, judge_health, wait_healthy, why_not_by_health
from cutover.gate.http_checks import endpoint, ready, version
from cutover.gate.log_checks import log_errors
from cutover.gate.task_checks import why_ended
from cutover.proxy.base import COLORS, Live, Proxy
from cutover.release.colors import (
    BeforeRelease,
    Colors,
    ask_live,
    color_named,
    control_for,
    find_live,
    inspect_colors,
    label_of,
    main_container,
    replicas_of,
    running_label,
    tag_of,
    target_named,
)
from cutover.release.gate_run import run_gate
from cutover.release.history import Record
from cutover.release.state import State
from cutover.release.transaction import Transaction
from cutover.system import docker
from cutover.system.container import Container
from cutover.system.docker import SwarmTask
from cutover.system.http import HttpClient

_Said = TypeVar("_Said", bound=tuple[Any, ...])
SWITCH_DEADLINE_S = 10.0
SILENT_DEADLINE_S = 60.0
"""How long a proxy that does not answer is waited for after a revert: it may be restarting."""
SETTLE_S = 30.0
"""How long the old release may need after a revert until it is as it was."""
SETTLE_POLL_S = 1.0
ASK_AGAIN = "cutover recover"
"""The command that asks once more whether users are served as before, and can record that a person accepts it."""
POLL_S = 0.02  # short, because the proxy's own delay is measured here
NOT_SEEN_BY_USERS = frozenset({
    "alerts", "disk", "health", "identity", "listens", "logs", "restarts", "settled", "tls", "unchanged", "user",
})  # fmt: skip
"""Questions of the shipped gate whose answer does not say what users get."""
LATENCY = "latency of "


# --- what runs now -----------------------------------------------------------------------------------------------
def what_runs(settings: Settings, proxy: Proxy | None) -> list[Running]:
    """What each color runs now; a color without a container is listed only if it is live."""
    live = find_live(settings, proxy).color
    found = (running_on(settings, color, live=color == live) for color in COLORS if color in settings.colors)
    return [each for each in found if each.state != NOTHING or each.live]


def running_on(settings: Settings, color: str, *, live: bool) -> Running:
    """What *color* runs now, and its state: `runs` if it is well."""
    try:
        found = main_container(settings, color)
    except EngineUnavailable:
        return Running(color, "", UNASKED, live=live)
    if found is None:
        return Running(color, "", NOTHING, live=live)
    health = "runs" if found.health_status in {"healthy", "none"} else found.health_status
    state = health if found.running else found.status
    return Running(color, label_of(found), state, live=live, digest=found.image)


def require_staged(settings: Settings, tag: str) -> None:
    """Raise ConfigError unless the idle color runs *tag*."""
    idle = color_named(inspect_colors(settings), "idle")
    found = main_container(settings, idle)
    has = label_of(found) if found is not None else "nothing"
    if has != tag:
        way_out = f"deploy it there first: `cutover release {tag} --stage`"
        raise ConfigError(f"--staged: {idle} has {has}, not {tag}; {way_out}")


def wait_live(
    settings: Settings, proxy: Proxy | None, expected: str | None, silent_s: float = SWITCH_DEADLINE_S
) -> Live:
    """The live color, waiting at most 10 s for *expected*: some proxies read their file with a delay.

    A proxy that does not answer is waited for *silent_s*.
    """
    begun = time.monotonic()
    while True:
        live = find_live(settings, proxy)
        most = silent_s if proxy is not None and live.color is None else SWITCH_DEADLINE_S
        if live.color == expected or time.monotonic() - begun >= most:
            return live
        time.sleep(POLL_S)


def require_live(settings: Settings, proxy: Proxy, to: str) -> None:
    """Return once the proxy says that *to* is live; raises Failed or Inconclusive after 10 s."""
    # First the proxy itself, which answers at once: a release that hangs would keep its users waiting here.
    if proxy.chooses(to):
        return
    live = wait_live(settings, proxy, to)
    if live.color is None:
        raise Inconclusive(f"who is live after the switch is unknown: {live.how}")
    if live.color != to:
        raise Failed(f"after the switch to {to} the proxy still sends traffic to {live.color} ({live.how})")


def engine_causes(
    record: Record,
    service: str,
    found: Mapping[str, Container | None],
    tasks: Sequence[SwarmTask] | None = None,
) -> list[str]:
    """What the engine knows of the release that failed: each container of *found* (by service) that ended by itself.

    For the main *service* also that it is not the container of *record* any more, if that is known; *tasks* are all of
    it that a Swarm remembers, None with Compose.
    """
    causes = (
        _cause_of_task(record, name, each, tasks) or _cause(record, name, each)
        if name == service
        else _cause(None, name, each)
        for name, each in found.items()
    )
    return [each for each in causes if each]


def _cause_of_task(
    record: Record, name: str, found: Container | None, tasks: Sequence[SwarmTask] | None
) -> str:
    """How the task of *record* ended, in whose place the Swarm has started *found*; empty if that is not so."""
    if tasks is None or found is None or found.id == record.container or not record.matches(found):
        return ""
    if ended := why_ended(record.container, found.number, tasks):
        return f"a task of {name} {ended}; the Swarm started another"
    return f"the task of {name} was replaced: {found.name} runs since {found.started_at[:19]}Z"


def _cause(record: Record | None, name: str, found: Container | None) -> str:
    if found is None:
        gone = "is gone: somebody removed the container that we started"
        return f"{name} of {record.color} {gone}" if record else ""
    if record is not None and record.container and found.id != record.container:
        what = f"{found.name} ({describe_container(found)}) since {found.started_at[:19]}Z"
        return f"{name} of {record.color} is not the container that we started: somebody started {what}"
    if not found.running:
        return f"{found.name}: {describe_exit(found)}"
    why = ", the last time for its memory limit" if found.oom_killed else ""
    again = f"{found.name} ended by itself and was started again: {found.restart_count} times{why}"
    return again if found.restart_count else ""


# --- after a revert, by the session that did it --------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class AfterRevert:
    """How what runs after a revert differs from what ran before the release."""

    trouble: str = ""
    """The first difference for users, or that the release itself still runs; empty if users are served as before."""
    notes: tuple[str, ...] = ()
    """Differences that users do not notice."""


def verify_reverted(settings: Settings, proxy: Proxy | None, tx: Transaction) -> AfterRevert:
    """The differences between what the revert of *tx* must lead to and now."""
    before, notes = tx.before.live, list[str]()
    if before is not None:
        live = wait_live(settings, proxy, before, SILENT_DEADLINE_S)
        if live.color != before:
            where = f"{live.color or 'no color that is known'} ({live.how})"
            return AfterRevert(f"traffic goes to {where}, it went to {before}")
    for color, there in tx.touched.items():
        found, number = _found(settings, color, tuple(there))
        had = tx.replicas.get(color, {})
        for service, was in there.items():
            now = found[service]
            if container_differs(was, now):
                how = f"was {describe_container(was)}, now it is {describe_container(now)}"
            elif number.get(service, 0) < had.get(service, 0):
                how = f"ran in {had[service]} containers, now it runs in {number[service]}"
            else:
                continue
            text = f"{service} of {color} {how}"
            idle = proxy is not None and before is not None and color != before
            ours = tx.record is not None and now is not None and now.image == tx.record.image
            if not idle or ours or service in settings.workers:  # workers take jobs on the idle color too
                return AfterRevert(text, tuple(notes))
            notes.append(f"{text}; it gets no traffic")
    return AfterRevert(_not_restored(settings, tx.restored) if tx.restored is not None else "", tuple(notes))


def _found(
    settings: Settings, color: str, services: tuple[str, ...]
) -> tuple[Mapping[str, Container | None], Mapping[str, int]]:
    """`docker.by_service` and `replicas_of` *color*, asked again for `SETTLE_S` while the engine does not answer."""
    begun = time.monotonic()
    while True:
        try:
            found = docker.by_service(settings.compose_project(color), services)
            return found, replicas_of(settings, color, services)
        except EngineUnavailable:
            if time.monotonic() - begun >= SETTLE_S:
                raise
        time.sleep(SETTLE_POLL_S)


def failing(colors: Colors) -> dict[str, str]:
    """Question -> reason, for what the live release fails now: by requests that change nothing, and by the engine."""
    return {each.question: each.reason for each in _ask_live(colors) if each.outcome is Outcome.NO}


def _ask_live(colors: Colors) -> list[Verdict]:
    """The verdicts of `failing`, as far as they could be asked; those by requests come first."""
    settings, verdicts = colors.settings, list[Verdict]()
    if colors.live.color is None:
        return verdicts
    with contextlib.suppress(CutoverError, OSError):
        target = target_named(colors, "live")
        control, verify = control_for(colors, target), settings.proxy.tls_verify if settings.proxy else True
        with HttpClient(target.base_url, settings.gate.request_timeout, verify) as client:
            verdicts.append(ready(client, control, settings.ready))
            if settings.version is not None:
                verdicts.append(version(client, control, settings.version, target.tag))
            reads = [each for each in settings.endpoints if each.method == "GET"]
            verdicts += [endpoint(client, control, each) for each in reads]
        found = main_container(settings, colors.live.color)
        if found is not None:
            verdicts += [judge_health(found, None), log_errors(found, None, settings.logs)]
    return verdicts


def describe_users(colors: Colors) -> str:
    """Whether users are served right now, by which color and tag."""
    color = colors.live.color
    if color is None:
        return f"whether they are served is unknown: {colors.live.how}"
    return judge_users(color, running_label(colors.settings, color), _ask_live(colors))


def judge_users(color: str, tag: str, asked: Sequence[Verdict]) -> str:
    """Whether users are served by *color*, by what it was *asked*: first whether it is ready."""
    by = f"{color}{f' ({tag})' if tag else ''}"
    wrong = [each for each in asked if each.outcome is Outcome.NO and each.question not in NOT_SEEN_BY_USERS]
    if wrong:
        first = f"{wrong[0].question}: {wrong[0].reason}"
        part = "" if wrong[0].question == "ready" else "all "
        return f"not {part}served by {by}: {first}"
    if not asked or asked[0].outcome is not Outcome.YES:
        why = asked[0].reason if asked else "it could not be asked"
        return f"whether {by} serves them is unknown: {why}"
    return f"served by {by}, which answers as its gate expects"


def describe_difference(colors: Colors, state: State, release: str) -> str:
    """What differs right now from what users had before *release* was opened; empty if nothing does."""
    was, settings = before_of(state, release), colors.settings
    color = colors.live.color or was.get("color")
    try:
        found = main_container(settings, color) if color else None
    except EngineUnavailable as error:
        return f"what runs could not be asked: {error}"
    return judge_reverted(was, colors.live.color, found, proxied=settings.proxy is not None)


def was_verified(state: State, before: BeforeRelease) -> bool:
    """Whether the release that was live *before* has passed a whole gate; else it may fail it now as it did then."""
    with contextlib.suppress(ConfigError):
        # Of an image without a tag a record has no tag, or the first digits of its ID.
        rows = [row for row in state.records(before.live or "") if row.verified]
        return any(row.tag == before.tag if before.tag else row.image == before.image for row in rows)
    return False


def gate_of_old(
    settings: Settings, before: BeforeRelease, paths: Sequence[str], *, verified: bool
) -> tuple[str, tuple[str, ...], Verdict]:
    """Why users are not served as they were *before*, by the gate of the release that was live; notes; and the gate.

    What it failed before the release it may fail again, and it may need a moment until it is well again.
    """
    with contextlib.suppress(EngineUnavailable):
        found = main_container(settings, before.live or "")
        if found is not None and not why_not_by_health(found) and "health" not in before.failed:
            wait_healthy(found.id, SETTLE_S)
    return settled_gate(settings, paths, before.failed, verified=verified)


def settled_gate(
    settings: Settings, paths: Sequence[str], before: Mapping[str, str], *, verified: bool
) -> tuple[str, tuple[str, ...], Verdict]:
    """What `judge_old_release` says of the gate of the live release, by `settle`; and that gate."""

    def judge() -> tuple[str, tuple[str, ...], Verdict]:
        gate = run_gate(settings, paths)
        failed = gate.evidence.get("failed") or {}
        return (*judge_old_release(failed, before, verified=verified), gate)

    return settle(judge)


def judge_old_release(
    failed: Mapping[str, str], before: Mapping[str, str], *, verified: bool
) -> tuple[str, tuple[str, ...]]:
    """Why users are not served as before, or an empty string; and notes on what else the old release fails.

    *failed* and *before*: question -> reason, now and before the release; *verified*: it has passed its gate once.
    """
    notes, trouble = [], ""
    for question, reason in failed.items():
        if question in before:
            notes.append(f"the old release fails its gate, as it did before: {question}: {reason}")
        elif question in NOT_SEEN_BY_USERS or question.startswith(LATENCY) or not verified:
            notes.append(f"the old release serves, but its gate says: {question}: {reason}")
        else:
            trouble = trouble or f"the old release does not pass the gate: {question}: {reason}"
    return trouble, tuple(notes)


def settle(
    judge: Callable[[], _Said],
    within_s: float = SETTLE_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _Said:
    """What *judge* says, asked again while the first of it says that something is wrong, at most *within_s*."""
    begun = clock()
    while True:
        said = judge()
        if not said[0] or clock() - begun >= within_s:
            return said
        sleep(SETTLE_POLL_S)


def _not_restored(settings: Settings, record: Record) -> str:
    found = docker.by_service(settings.compose_project(record.color), settings.services)
    for service, each in found.items():
        # The record knows the image of the main service only.
        wanted = record.image if service == settings.service else each and each.image
        if each is None or not each.running or each.image != wanted:
            return f"{service} of {record.color} is {describe_container(each)}, not the last verified release"
    return ""


def container_differs(was: Container | None, now: Container | None) -> bool:
    """Whether a service is not as it was: what ran must run the same image, and what did not run must not run."""
    if was is None or not was.in_use:
        return now is not None and now.in_use
    if now is None or now.image != was.image:
        return True
    return not (now.running or (now.in_use and not was.running))


def describe_container(found: Container | None) -> str:
    """`running (sha-1, 4f1c2aa09d31)` or `not there`."""
    if found is None:
        return "not there"
    tag = tag_of(found.image_name)
    return f"{found.status} ({f'{tag}, ' if tag else ''}{found.image[7:19]})"


def describe_color(settings: Settings, proxy: Proxy | None, color: str | None) -> str:
    """`blue serves sha-1`: what *color* does after a revert."""
    there = next((each for each in what_runs(settings, proxy) if each.color == color), None)
    if there is None:
        return "nothing runs there, as before"
    if not there.tag:
        return f"{color}: {there.state}"
    if there.state != "runs":
        return f"{color} has {there.tag}, {there.state}"
    return f"{color} {'serves' if there.live else 'runs'} {there.tag}"


# --- after a revert, by another process, which has only the journal ------------------------------------------------
def before_of(state: State, release: str) -> dict[str, Any]:
    """What users had before *release* was opened, by its entry in the journal; empty without one."""
    rows = (row for row in state.history() if row.get("event") == "open" and row.get("release") == release)
    return next(rows, {})


def served_after(
    settings: Settings, state: State, release: str, *, silent_s: float = SILENT_DEADLINE_S
) -> tuple[str, str]:
    """What differs from what users had before *release* was opened, empty if nothing does; and what serves now.

    A proxy that does not answer is waited for *silent_s*. Raises CutoverError if that cannot be asked.
    """
    was, (proxy, live) = before_of(state, release), ask_live(settings)
    if "live" in was:
        live = wait_live(settings, proxy, was["live"], silent_s)
    color = live.color or was.get("color")
    found = main_container(settings, color) if color else None
    trouble = judge_reverted(was, live.color, found, proxied=settings.proxy is not None)
    if trouble:
        return f"{trouble} ({live.how})", ""
    if found is None or not found.running:
        return "", f"nothing runs on {color}, as before"
    return "", f"{color} {'serves' if live.color else 'runs'} {label_of(found)}, as before"


def require_reverted(settings: Settings, state: State, release: str) -> str:
    """What serves after *release* was reverted; raises OperatorNeeded if it is not what the journal says of before."""
    try:
        trouble, said = served_after(settings, state, release)
    except CutoverError as error:
        raise _unverified(release, f"what serves now could not be asked: {error}") from error
    if trouble:
        raise _unverified(release, trouble)
    return said


def _unverified(release: str, what: str) -> OperatorNeeded:
    return OperatorNeeded(f"release {release} was reverted, but {what}; run: {ASK_AGAIN}", release=release)


@contextlib.contextmanager
def journaled(state: State, release: str | None = None, *, only_recover: bool = False) -> Iterator[None]:
    """Write an OperatorNeeded to the journal: `cutover status` repeats it until it is resolved.

    It is of the release that the error names, else of the open one or of *release*; *only_recover*: who serves does not
    say that it is resolved.
    """
    try:
        yield
    except OperatorNeeded as error:
        why, _, run = str(error).partition("; run: ")
        of = error.release or state.open_release() or release
        facts = {"release": of, "only_recover": only_recover}
        status = str(Status.ROLLBACK_FAILED)
        state.journal("end", word=status, code=error.exit_code, why=why, run=run, **facts)
        raise


def judge_reverted(
    was: Mapping[str, Any], live: str | None, found: Container | None, *, proxied: bool
) -> str:
    """What differs from *was*, the journal's entry of the opened release; an empty string if nothing does."""
    if "live" not in was:
        if live and found and found.running:
            return ""
        return "the journal does not say what served before, and nothing is known to serve now"
    if live is None and proxied:
        return "who gets the traffic is unknown"
    if was["live"] and live != was["live"]:
        return f"traffic goes to {live or 'no color that is known'}, it went to {was['live']}"
    tag, image = was.get("tag"), was.get("image") or ""
    runs, of = (label_of(found), found.image) if found and found.running else ("", "")
    if (runs != tag) if tag else (of != image):
        return f"{was.get('color')} runs {runs or 'nothing'}, it ran {tag or image[7:19] or 'nothing'}"
    if image and of != image:
        return f"{was['color']} runs {runs} from image {of[7:19]}, it was {image[7:19]}"
    return ""

"""What runs now, and whether it is what ran before a release."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cutover.core.config import Settings
from cutover.core.errors import CutoverError, EngineUnavailable, Failed, Inconclusive, OperatorNeeded
from cutover.core.result import NOTHING, UNASKED, Running
from cutover.proxy.base import COLORS, Live, Proxy
from cutover.release.colors import find_live, inspect_colors, main_container, tag_of
from cutover.release.history import Record
from cutover.release.state import State
from cutover.release.transaction import Transaction
from cutover.system import docker
from cutover.system.container import Container

SWITCH_DEADLINE_S = 10.0
POLL_S = 0.02  # short, because the proxy's own delay is measured here


# --- what runs now -----------------------------------------------------------------------------------------------
def what_runs(settings: Settings, proxy: Proxy | None) -> list[Running]:
    """What each color runs now; a color without a container is listed only if it is live."""
    live = find_live(settings, proxy).color
    found = (_running(settings, color, live=color == live) for color in COLORS if color in settings.colors)
    return [each for each in found if each.state != NOTHING or each.live]


def _running(settings: Settings, color: str, *, live: bool) -> Running:
    try:
        found = main_container(settings, color)
    except EngineUnavailable:
        return Running(color, "", UNASKED, live=live)
    if found is None:
        return Running(color, "", NOTHING, live=live)
    health = "runs" if found.health_status in {"healthy", "none"} else found.health_status
    state = health if found.running else found.status
    return Running(color, label_of(found), state, live=live, digest=found.image)


def label_of(found: Container) -> str:
    """The tag of a container's image; of one without a tag, the first digits of the image ID."""
    return tag_of(found.image_name) or found.image[7:19]


def wait_live(settings: Settings, proxy: Proxy | None, expected: str | None) -> Live:
    """The live color, waiting at most 10 s for *expected*: some proxies read their file with a delay."""
    deadline = time.monotonic() + SWITCH_DEADLINE_S
    while True:
        live = find_live(settings, proxy)
        if live.color == expected or time.monotonic() >= deadline:
            return live
        time.sleep(POLL_S)


def require_live(settings: Settings, proxy: Proxy, to: str) -> None:
    """Return once the proxy says that *to* is live; raises Failed or Inconclusive after 10 s."""
    live = wait_live(settings, proxy, to)
    if live.color is None:
        raise Inconclusive(f"who is live after the switch is unknown: {live.how}")
    if live.color != to:
        raise Failed(f"after the switch to {to} the proxy still sends traffic to {live.color} ({live.how})")


# --- after a revert, by the session that did it --------------------------------------------------------------------
def verify_reverted(settings: Settings, proxy: Proxy | None, tx: Transaction) -> str:
    """First difference between what the revert of *tx* must lead to and now, or an empty string."""
    before = tx.before.live
    if before is not None and (live := wait_live(settings, proxy, before)).color != before:
        return f"traffic goes to {live.color or 'no color that is known'} ({live.how}), it went to {before}"
    for color, there in tx.touched.items():
        found = docker.by_service(settings.compose_project(color), tuple(there))
        for service, was in there.items():
            if container_differs(was, found[service]):
                now = describe_container(found[service])
                return f"{service} of {color} was {describe_container(was)}, now it is {now}"
    return _not_restored(settings, tx.restored) if tx.restored is not None else ""


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
def require_reverted(settings: Settings, state: State, release: str) -> str:
    """What serves after *release* was reverted; raises OperatorNeeded if it is not what the journal says of before."""
    was = next(
        (row for row in state.history() if row.get("event") == "open" and row.get("release") == release), {}
    )
    try:
        colors = inspect_colors(settings)
        live = wait_live(settings, colors.proxy, was["live"]) if "live" in was else colors.live
        color = live.color or was.get("color")
        found = main_container(settings, color) if color else None
    except CutoverError as error:
        raise _unverified(release, f"what serves now could not be asked: {error}") from error
    trouble = judge_reverted(was, live.color, found, proxied=settings.proxy is not None)
    if trouble:
        raise _unverified(release, f"{trouble} ({live.how})")
    if found is None or not found.running:
        return f"nothing runs on {color}, as before"
    return f"{color} {'serves' if live.color else 'runs'} {label_of(found)}, as before"


def _unverified(release: str, what: str) -> OperatorNeeded:
    return OperatorNeeded(f"release {release} was reverted, but {what}; run: cutover status")


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
    runs = tag_of(found.image_name) if found and found.running else None
    if runs != was.get("tag"):
        return f"{was.get('color')} runs {runs or 'nothing'}, it ran {was.get('tag') or 'nothing'}"
    return ""

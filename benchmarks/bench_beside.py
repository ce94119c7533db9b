"""Compare releases by bare Compose, by a typical deploy script, and with each proxy driver.

    .venv/bin/python benchmarks/bench_beside.py [compose] [script] [nginx] [traefik] [command] [port-swap] [--dry]

compose    a bare `docker compose up -d`; users connect to the published port
script     start the other color, wait for /readyz with curl, rewrite nginx's upstream, `nginx -s reload`
others     `pytest smoke checks --target=idle --deploy=… --switch --watch=3s` with that driver; command is HAProxy

All rows use the same two images and the same load: 100 keep-alive connections with 50 requests/s open loop, half of
them POST (which the service rejects with 400, so nothing is written), and additional requests of three seconds.
Each row measures a release, the rollback under the same load, and two bad releases: one that exits at start and one
that returns 500 for every second request. About 2 minutes per row. The exit code is always 0.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

from benchmarks import write
from benchmarks.chart import Bar, chart
from benchmarks.common import CONNECTIONS, RATE, Rows, asked, built, merged, publish, say, table, users
from benchmarks.strategies import OTHERS, WAYS, Way, listening
from tests.helpers.load import Ask, Load

SECTION = "beside"
PICTURE = write.PAGE.with_name("benchmarks-beside.svg")
ASKS = (Ask("GET", "/version"), Ask("POST", "/memories", b"{}", every=2))
BAD = {"crash-at-start": "ends at its start", "half-errors": "500 for half of the requests"}
ARRIVES_S = 60.0
QUIET_S = 2.0


@dataclass(frozen=True, slots=True)
class Change:
    """What users saw during one change of release; times in seconds since the command was started."""

    code: int
    took_s: float
    requests: int
    failed: int
    gap_ms: float
    through_s: float
    """Time of the last response that failed or came from the previous release."""
    ready_s: float | None
    """Time when the engine first reported a container of the new release as healthy."""


def change(way: Way, tag: str, *, back: bool) -> Change:
    """Change to *tag* under load, and wait until all users get it."""
    with listening(way.on) as health, users(way.url, ASKS) as seen:
        since, begun = time.time(), time.monotonic()
        done = way.roll_back(tag) if back else way.release(tag)
        took = time.monotonic() - begun
        arrives(seen, tag)
    if done.code:
        say(done.last)
    late = [each.ended for each in seen.shots if not_there(each, tag) and each.due > begun]
    healthy = health.first(tag)
    return Change(
        code=done.code,
        took_s=took,
        requests=len(seen.shots),
        failed=len(seen.failed),
        gap_ms=seen.longest_gap() * 1000,
        through_s=max(late, default=begun) - begun,
        ready_s=None if healthy is None else healthy - since,
    )


def not_there(each: Any, tag: str) -> bool:
    """Whether *tag* did not answer this request; slow requests may still be answered by the previous release."""
    return each.failed or (each.release != tag and "slow" not in each.ask.path)


def arrives(seen: Load, tag: str) -> None:
    """Wait until *tag* has answered all requests of the last two seconds, at most ARRIVES_S."""
    end = time.monotonic() + ARRIVES_S
    while time.monotonic() < end:
        last = [each for each in list(seen.shots) if each.ended > time.monotonic() - QUIET_S]
        if last and not any(not_there(each, tag) for each in last):
            return
        time.sleep(0.1)  # poll: the load runs in threads that signal no single request


def bad(way: Way, name: str, good: str) -> dict[str, Any]:
    """Release a bad image; return the exit code and the release that users get a few seconds later."""
    tag = built(name, name)
    done = way.release(tag)
    end, serves = time.monotonic() + QUIET_S * 2, "nobody"
    while time.monotonic() < end:
        serves = who(way.url)
        time.sleep(0.2)  # poll: the service is asked over HTTP, which raises no event
    if done.code == 0 or serves != good:
        way.roll_back(good)
        end = time.monotonic() + ARRIVES_S
        while who(way.url) != good and time.monotonic() < end:
            time.sleep(0.2)  # poll, as above
    return {"code": done.code, "serves": {good: "the old one", tag: "the bad one"}.get(serves, serves)}


def who(url: str) -> str:
    """The release that responds now."""
    try:
        with urlopen(f"{url}/version", timeout=5) as answer:  # noqa: S310  # our own http://127.0.0.1
            return str(json.load(answer).get("version", "nobody"))
    except (OSError, ValueError):
        return "nobody"


def measure(name: str, where: str) -> dict[str, Any]:
    """Measure one row: release, rollback and the bad releases."""
    old, new = built("beside old"), built("beside new")
    with WAYS[name]() as way:
        way.first(old)
        there = change(way, new, back=False)
        back = change(way, old, back=True)
        told = {each: bad(way, each, old) for each in BAD}
    ready = there.through_s - there.ready_s if there.ready_s is not None else None
    return {
        "code": there.code,
        "took_s": there.took_s,
        "requests": there.requests,
        "failed": there.failed,
        "gap_ms": there.gap_ms,
        "ready_to_all_s": ready,
        "back_s": back.through_s,
        "back_failed": back.failed,
        "bad": told,
        "where": where,
    }


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    rows = {name: rows[name] for name in WAYS if name in rows}
    head = (
        "way", "requests", "failed", "longest gap", "from ready to all traffic", "way back", "failed on it",
        *(f"bad: {about}" for about in BAD.values()), "exit code told the truth",
    )  # fmt: skip
    return [
        "## Side by side",
        "",
        f"`python benchmarks/bench_beside.py`: the same two images, {CONNECTIONS} kept-alive connections, {RATE} requests/s",
        "open loop, half POST, and others of three seconds. Bad releases: exit code, and who answered users afterwards.",
        "",
        *table(head, [cells(name, row) for name, row in rows.items()]),
        "",
        f"![Failed requests and the longest gap of each way]({PICTURE.name})",
        "",
        "What is unequal: `compose` and `script` ask nothing but what they say above, so they are done sooner; ours stands",
        "5 s without a restart and runs its whole gate between ready and switched. `compose` has one copy of the service,",
        "its users have no proxy in between, and its way back is a start. `port-swap` has no proxy either: its gap",
        "is announced beforehand, and is there because a port can have one owner. The way back counts from the call of the",
        "command, with the start of Python in ours; it ends with the last request that failed or that the release before answered.",
    ]  # fmt: skip


def cells(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The table row of one measurement."""
    truth = all(each["code"] != 0 for each in row["bad"].values()) and row["code"] == 0
    return (
        name,
        f"{row['requests']:,}",
        f"**{row['failed']}**",
        f"{row['gap_ms']:.0f} ms",
        ready(row["ready_to_all_s"]),
        f"{row['back_s']:.1f} s",
        str(row["back_failed"]),
        *(f"exit {each['code']}, {each['serves']}" for each in row["bad"].values()),
        "yes" if truth else "**no**",
    )


def ready(seconds: float | None) -> str:
    """Format the time from ready to all traffic; negative if traffic was sent before the release was ready."""
    if seconds is None:
        return "not seen"
    return f"{seconds:.1f} s" if seconds >= 0 else f"{-seconds:.1f} s before it was ready"


def picture(rows: Rows) -> str:
    """SVG chart for the section."""
    bars = [
        Bar(
            name,
            (row["failed"], row["gap_ms"], row["back_s"]),
            (str(row["failed"]), f"{row['gap_ms']:.0f} ms", f"{row['back_s']:.1f} s"),
            name not in OTHERS,
        )
        for name, row in ((name, rows[name]) for name in WAYS if name in rows)
    ]
    return chart(("failed requests", "longest gap", "way back"), bars)


def main() -> int:
    """Measure, print and write the results."""
    options = asked(__doc__, tuple(WAYS))
    where, rows = write.machine(), {}
    for name in options.names:
        rows[name] = measure(name, where)
        say(" | ".join(cells(name, rows[name])))
    both = merged(SECTION, rows)
    publish(SECTION, told(both), both, dry=options.dry)
    if not options.dry:
        PICTURE.write_text(picture(both), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`cutover stats`: DORA's four measures of delivery, from the journal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import click

from cutover.cli.main import common, settings_of, tell
from cutover.core.config_schema import parse_duration
from cutover.core.errors import ConfigError
from cutover.core.text import DAY, count, duration, seconds_of
from cutover.release.history import END_EVENTS, read_journal

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
    why = Counter(
        str(row.get("why") or "no reason in the journal") for _, _, row in ends if row["event"] in FAILED_ENDS
    )
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
    bad = (
        f"{found.failed} reverted, {found.rolled_back} rolled back later, {found.unverified} kept unverified"
    )
    rows = [
        ("period", f"{found.days:g} days, {count(tried, 'release')}"),
        ("deployment frequency", f"{found.releases_per_day or 0:g} a day ({found.released} kept)"),
        ("lead time", f"{shown(found.lead_time_s)}, from the start of a release to its commit"),
        ("change failure rate", f"{rate}: {bad}"),
        ("time to restore", f"{shown(found.restore_s)}, from the start of a release to its revert"),
        ("failed requests", f"{found.failed_requests:,} of users, as far as recorded"),
    ]  # fmt: skip
    return [f"{name:<22}{text}" for name, text in rows] + [
        f"  {times} × {why}" for why, times in found.reasons
    ]


@click.command("stats")
@common
@click.option("--since", metavar="DURATION", help="Only the last such time, like 30d or 12h.")
def stats_command(config: str | None, as_json: bool, since: str | None) -> int:
    """Print DORA's four measures from the journal: frequency, lead time, failure rate, time to restore."""
    now = time.time()
    try:
        begin = now - parse_duration(since) if since else 0.0
    except ValueError as error:
        raise ConfigError(f"--since: {error}") from error
    found = delivery_stats(read_journal(settings_of(config).state), begin, now)
    tell(as_json, asdict(found), stats_lines(found))
    return 0

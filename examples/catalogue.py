"""Catalog of the releases that can be built: good, defective, and good but noisy ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Seen(Enum):
    """When the defect of a release becomes visible."""

    BEFORE_TRAFFIC = "before traffic"
    UNDER_TRAFFIC = "under traffic"
    MIGRATION = "migration"
    BESIDE_THE_OLD = "only beside the old release"
    NEVER = "never: it is good, only noisy"


# Migrations shared by all releases, oldest first. An earlier release lacks the last ones.
REVISIONS = ("8c1f_memories", "a2d9_source", "b771_tags", "c40e_pinned")
# Minimum number of migrations: the code uses a column that the second one adds.
FEWEST = 2


@dataclass(frozen=True, slots=True)
class Defect:
    """One difference from a good release built from the same source."""

    name: str
    seen: Seen
    about: str
    # Dockerfile lines added at the end, for defects of the image rather than of the code.
    lines: tuple[str, ...] = ()


def _before(name: str, about: str, *lines: str) -> Defect:
    return Defect(name, Seen.BEFORE_TRAFFIC, about, lines)


def _under(name: str, about: str) -> Defect:
    return Defect(name, Seen.UNDER_TRAFFIC, about)


def _noisy(name: str, about: str, *lines: str) -> Defect:
    return Defect(name, Seen.NEVER, about, lines)


DEFECTS: dict[str, Defect] = {
    defect.name: defect
    for defect in (
        _before("wrong-version", "ready, but /version names another tag"),
        _before("wrong-service", "ready, but /version names another service"),
        _before("ready-string", '/readyz answers {"ready": "true"}'),
        _before("ready-redirect", "/readyz answers 302"),
        _before(
            "ready-503", "/readyz answers 503 while the HEALTHCHECK is content", "ENV HEALTH_PATH=/version"
        ),
        _before("never-ready", "/readyz answers 503 and the HEALTHCHECK never succeeds"),
        _before("crash-at-start", "ends before it listens"),
        _before("prints-environment", "logs each of its variables, secrets too, and ends before it listens"),
        _before("crash-loop-late", "healthy, then ends 3 s after each start"),
        _before("dies-after-healthy", "ends 0.5 s after its first good probe"),
        _before("error-spike", "20 ERROR lines at start, one more for each request"),
        _before("traceback-log", "a traceback on stderr at start and for each request"),
        _before("slow-endpoint", "/memories takes 2 s"),
        _before("wrong-status", "GET /memories answers 404"),
        _before("wrong-json", "GET /memories answers without its key"),
        _before("listens-elsewhere", "healthy on port 9000, the published 8000 is dead", "ENV PORT=9000"),
        # Keep the group: without it, root without capabilities cannot write the data and never becomes ready.
        _before("runs-as-root", "the image says USER 0", "USER 0:10001"),
        _before("hangs", "accepts each connection and answers none"),
        _before(
            "half-errors", "500 for every second request, the first included, /readyz and /version spared"
        ),
        Defect("drops-field", Seen.BESIDE_THE_OLD, "/version lacks a field that no check asks for"),
        Defect("rare-error", Seen.BESIDE_THE_OLD, "500 on a route that no check asks for"),
        _under("leak", "memory grows by 1 MB/s"),
        _under("cpu-burn", "a child keeps one core busy"),
        _under("new-error", "every 3 s an ERROR line, with eight signatures in turn"),
        _under("breaks-later", "500 for everything once its seconds have passed or /tmp/break exists"),
        Defect("migration-contract", Seen.MIGRATION, "a revision renames a column that older releases use"),
        Defect("bad-migration", Seen.MIGRATION, "the upgrade fails half-way"),
        _noisy(
            "no-healthcheck", "the image says HEALTHCHECK NONE: readiness takes its place", "HEALTHCHECK NONE"
        ),
        _noisy("slow-start", "needs 6 s, within its start period"),
        _noisy("chatty", 'INFO lines with the word "error", each second and for each request'),
        _noisy("dropped-probe", "closes the first connection from outside without an answer"),
        _noisy("warm-up", "the first ten requests take 0.3 s longer"),
        _noisy("baseline-errors", "one ERROR line every 12 s, always the same, as in the release before"),
    )
}

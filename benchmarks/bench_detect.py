"""Measure which watch check detects a failing release and after how many seconds, and that healthy ones are kept.

    python -m benchmarks.bench_detect [NAME …] [--dry]

Each case is a container behind nginx with 40 user requests per second on the loopback interface, watched by the
default checks beside an old color. The results are written to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import write
from benchmarks.detect_cases import CASES, Case, Release, Scene, asked, docker
from cutover.core.config import Settings
from cutover.core.evidence import Evidence
from cutover.core.target import ControlProbe, Target
from cutover.core.verdict import Outcome
from cutover.system import http
from cutover.watch.check import WatchResult, run_watch
from cutover.watch.suite import WatchSuite
from tests.helpers.color_servers import Backend, Colors
from tests.helpers.real_proxies import nginx

BEFORE_S, NOISY_S, LONGEST_S = 12.0, 30.0, 90.0
USERS, EACH = 8, 5.0
DEADLINE_S = 120.0


@contextmanager
def stage() -> Iterator[Scene]:
    """Two containers of the service behind nginx; green is live."""
    name = f"bench-detect-{uuid.uuid4().hex[:6]}"
    old, live = (Release(color, f"{name}_{color}") for color in ("blue", "green"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for each in (old, live):
            stack.callback(_remove, each)
            each.start()
        backends = Colors(Backend("blue", old.port), Backend("green", live.port), lambda _color: None)
        proxy = stack.enter_context(nginx(folder, backends))
        yield Scene(live, old, proxy)


def _remove(release: Release) -> None:
    with suppress(RuntimeError):
        docker("rm", "--force", "--volumes", release.id)


@contextmanager
def users(url: str) -> Iterator[None]:
    """Send 40 requests per second; a request that hangs does not delay the others."""
    over = threading.Event()

    def one() -> None:
        while not over.is_set():
            begun = time.monotonic()
            asked(f"{url}/memories")
            over.wait(max(0.0, 1 / EACH - (time.monotonic() - begun)))

    threads = [threading.Thread(target=one) for _ in range(USERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def settings_of(scene: Scene) -> Settings:
    """Settings for the watch of *scene*."""
    table = {
        "project": "detect",
        "colors": {color: {"env_file": f".env.{color}"} for color in ("blue", "green")},
        "proxy": {
            "driver": "nginx",
            "url": f"http://127.0.0.1:{scene.proxy.port}",
            "access_log": scene.proxy.log,
        },
        "slo": {"p95": "500ms", "min_requests": 50},
        "endpoints": [{"path": "/memories", "json": {"path": "/memories"}, "max_latency": "5s"}],
        "dependencies": [{"name": "db", "kind": "tcp", "url_key": "DB_URL"}],
    }
    return Settings.model_validate(table)


def watched(scene: Scene, case: Case) -> tuple[WatchResult, float]:
    """Watch result of *case*, and the seconds from the failure to the end of the watch."""
    settings, url = settings_of(scene), f"http://127.0.0.1:{scene.proxy.port}"
    live = Target("live", "live", url, "green", scene.live.project, through_proxy=True)
    old = Target("blue", "color", f"http://127.0.0.1:{scene.old.port}", "blue", scene.old.project)
    alive = http.HttpClient(url, 5.0)
    control = ControlProbe(
        lambda: isinstance(http.send_request(alive, "GET", "/__cutover/alive"), http.HttpResponse)
    )
    with users(url):
        if case.before:
            case.before(scene)
        time.sleep(BEFORE_S)
        scene.proxy.go("green")
        asked_of = WatchSuite(settings, live, old, control, Evidence(), time.time()).checks()
        broken = [0.0]

        def later(left: float, _verdicts: object) -> None:
            if not broken[0] and left < longest - 3:
                broken[0] = time.monotonic()
                threading.Thread(target=case.happen, args=(scene,), daemon=True).start()

        longest = LONGEST_S if case.by else NOISY_S
        seen = run_watch(asked_of, longest, on_tick=later)
        return seen, time.monotonic() - broken[0]


@dataclass(frozen=True, slots=True)
class Row:
    """Result of one case."""

    case: Case
    by: str
    seconds: float
    reason: str
    no_yes: tuple[str, ...] = ()
    """Checks whose outcome is not yes."""

    @property
    def right(self) -> bool:
        """Whether a failing release was detected by an expected check, or a healthy one kept."""
        if self.case.all_yes and set(self.no_yes) - {"leak"}:
            return False
        return self.by in self.case.by if self.case.by else not self.by

    @property
    def mark(self) -> str:
        """The same as a symbol."""
        return "✓" if self.right else "✗"


def measured(case: Case) -> Row:
    """Run one case."""
    with stage() as scene:
        seen, seconds = watched(scene, case)
    reason = seen.verdicts[seen.ended_by].reason if seen.ended_by else ""
    told = [
        each.reason
        for each in seen.verdicts.values()
        if each.outcome is Outcome.NOT_ASKED and "reported" in each.reason
    ]
    no_yes = tuple(each.question for each in seen.verdicts.values() if each.outcome is not Outcome.YES)
    if case.all_yes:
        told += [f"yes to all but {', '.join(no_yes)}"]
    return Row(case, seen.ended_by, seconds, reason or "; ".join(told), no_yes)


def told(rows: list[Row], where: str) -> str:
    """Markdown text of the section."""
    bad, good = ([row for row in rows if bool(row.case.by) is kind] for kind in (True, False))
    caught, wrong = sum(row.right for row in bad), sum(not row.right for row in good)
    sure = f"{caught} of {len(bad)} bad releases were caught, {wrong} of {len(good)} healthy ones reverted."
    load = f"{USERS * EACH:.0f} requests of users a second, 2 probes a second"
    lines = [
        "## How soon a bad release is noticed", "", f"`python -m benchmarks.bench_detect` · {where}", "",
        f"{sure} {load}; seconds from the break to the end of the watch.", "",
        "| what happens | | noticed by | after | in its words |", "|---|---|---|---|---|",
        *(f"| {row.case.about} | {row.mark} | {row.by or 'nobody'} | {row.seconds:.1f} s | {said(row)} |" for row in bad),
        "", f"Healthy, each watched for {NOISY_S:.0f} s:", "", "| what happens | | reverted by | what is reported |",
        "|---|---|---|---|",
        *(f"| {row.case.about} | {row.mark} | {row.by or 'nobody'} | {said(row)} |" for row in good),
    ]  # fmt: skip
    return "\n".join(lines)


def said(row: Row) -> str:
    """The reason, escaped for a table cell."""
    return row.reason.replace("|", "\\|")[:160]


def main() -> int:
    """Measure, print and write the results; 1 if a failing release was missed or a healthy one reverted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"any of {', '.join(case.name for case in CASES)}"
    )
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    where, rows = write.machine(), list[Row]()
    for case in CASES:
        if not options.names or case.name in options.names:
            row = measured(case)
            rows.append(row)
            mark = "ok " if row.right else "BAD"
            sys.stdout.write(
                f"{mark} {case.name:20} {row.by or '-':15} {row.seconds:5.1f} s  {row.reason[:110]}\n"
            )
            sys.stdout.flush()
    text = told(rows, where)
    if not options.dry and not options.names:
        write.section("detect", text)
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Releases that break under traffic, and healthy noisy ones: which question says no, and after how many seconds.

    python -m tests.bench.bench_detect [NAME …] [--dry]

Each is a real container behind the real nginx, with 40 requests of users a second on the loopback, watched by the
shipped questions beside an old colour. It writes its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from cutover import http
from cutover.evidence import Evidence
from cutover.probes.default import watched_for
from cutover.settings import Settings
from cutover.target import Control, Target
from cutover.verdict import Outcome
from cutover.watching import Observed, watch
from examples.images import image
from tests.bench import write
from tests.engine.test_proxies import Running, nginx
from tests.proxies.servers import Backend, Colours, free_port, wait_until

PROGRAM = (Path(__file__).parent / "breakable.py").read_text()
LIMITS = ("--memory", "128m", "--memory-swap", "128m", "--cpus", "0.3")
HEALTH = (
    "--health-cmd", "test ! -e /tmp/sick", "--health-interval", "1s", "--health-retries", "2",
)  # fmt: skip
BEFORE_S, NOISY_S, LONGEST_S = 12.0, 30.0, 90.0
USERS, EACH = 8, 5.0
DEADLINE_S = 120.0


@dataclass(slots=True)
class Release:
    """One container of the breakable service."""

    colour: str
    project: str
    port: int = field(default_factory=free_port)
    id: str = ""

    def start(self) -> None:
        """Run it as Compose would: the questions find it by label."""
        labels = {"project": self.project, "service": "api", "oneoff": "False"}
        given = [f"--label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        self.id = docker(
            "run", "--detach", "--init", "--restart", "always", *given, *LIMITS, *HEALTH, "--env",
            f"COLOUR={self.colour}", "--env", "DB_URL=tcp://127.0.0.1:9999", "--publish",
            f"127.0.0.1:{self.port}:8000", image("base"), "python3", "-c", PROGRAM,
        )  # fmt: skip
        wait_until(
            lambda: asked(f"http://127.0.0.1:{self.port}/readyz") == 200, "the service answers", DEADLINE_S
        )

    def breaks(self, how: str) -> None:
        """Break it that way."""
        asked(f"http://127.0.0.1:{self.port}/__break?how={how}")


@dataclass(slots=True)
class Scene:
    """Both colours and the proxy."""

    live: Release
    old: Release
    proxy: Running

    def both(self, how: str) -> None:
        """Break both colours, the old one first."""
        self.old.breaks(how)
        self.live.breaks(how)


Act = Callable[[Scene], object]


@dataclass(frozen=True, slots=True)
class Case:
    """A release that breaks, or one that only looks odd."""

    name: str
    about: str
    by: tuple[str, ...] = ()
    """Questions that may say no; none for a healthy one."""
    act: Act | None = None
    """What happens during the watch; without it the service is told its name."""
    before: Act | None = None
    """What happens before the watch."""
    all_yes: bool = False
    """Whether each question must be answered with yes in the end; only a leak takes longer to tell."""

    def happen(self, scene: Scene) -> None:
        """Break it, or make it look odd."""
        if self.act is None:
            scene.live.breaks(self.name)
        else:
            self.act(scene)


HTTP = ("availability", "5xx", "latency", "endpoints")
GONE = ("availability", "5xx", "restarts", "health", "oom")
CASES = (
    Case("5xx-all", "every request fails", HTTP),
    Case("5xx-half", "every second request fails", HTTP),
    Case("5xx-tenth", "one request in ten fails", HTTP),
    Case("not-ready", "readiness says 503, the rest works", HTTP),
    Case("redirect", "readiness answers 302", HTTP),
    Case("hang", "nothing is answered any more", HTTP),
    Case("slow-all", "each answer takes 0.8 s", HTTP),
    Case("slow-tail", "one answer in five takes 1.5 s", HTTP),
    Case("reset", "connections are closed without an answer", HTTP),
    Case("cut", "answers end in the middle", HTTP),
    Case("other-json", "answers hold something else", ("endpoints",)),
    Case("crash", "the process ends; the engine starts it again", GONE),
    Case("killed", "docker kill", GONE, lambda scene: docker("kill", scene.live.id)),
    Case("stopped", "docker stop", GONE, lambda scene: docker("stop", "--time", "1", scene.live.id)),
    Case("paused", "docker pause", GONE, lambda scene: docker("pause", scene.live.id)),
    Case("restarted", "docker restart", GONE, lambda scene: docker("restart", "--time", "1", scene.live.id)),
    Case("replaced", "docker rm", GONE, lambda scene: docker("rm", "--force", scene.live.id)),
    Case("oom", "the process outgrows its limit", GONE),
    Case("oom-child", "a worker outgrows the limit, the service lives on", ("oom",)),
    Case("memory", "memory stays just below the limit", ("memory", "oom")),
    Case("cpu", "two busy loops eat the whole CPU limit", ("cpu", *HTTP), None, lambda scene: less_cpu(scene.live)),
    Case("unhealthy", "its HEALTHCHECK fails, users notice nothing", ("health",)),
    Case("logs-only", "an error line for each request, all of them answered", ("log errors", "new errors")),
    Case("new-errors", "each second an error of one of eight new kinds", ("log errors", "new errors")),
    Case("traceback", "tracebacks on stderr, users notice nothing", ("log errors", "new errors")),
    Case("dependency", "the live colour alone loses its database", ("dependency db",)),
    Case("switched", "somebody else switches the proxy", ("colour",), lambda scene: scene.proxy.go("blue")),
    Case("steady", "nothing happens", (), lambda _scene: None, all_yes=True),
    Case("5xx-rare", "one request in 500 fails"),
    Case("slow-rare", "one answer in 50 takes 1 s"),
    Case("slow-bit", "each answer takes 0.15 s, within the SLO"),
    Case("chatty", 'INFO lines with the word "ERROR"'),
    Case("errors-as-before", "an error each 2 s, as the old colour had", (), None, lambda scene: scene.old.breaks("errors-as-before")),
    Case("garbage-collector", "memory goes up and down by 20 MB"),
    Case("cpu-spike", "a busy core for 5 s"),
    Case("old-dies", "the old colour is killed", (), lambda scene: docker("rm", "--force", scene.old.id)),
    Case("old-restarts", "the old colour restarts", (), lambda scene: docker("restart", "--time", "1", scene.old.id)),
    Case("old-unhealthy", "the old colour gets unhealthy", (), lambda scene: scene.old.breaks("unhealthy")),
    Case("5xx-both", "both colours answer 503, but for /readyz: the database is down", (), lambda scene: scene.both("5xx-both")),
    Case("slow-both", "both colours need 0.8 s for an answer", (), lambda scene: scene.both("slow-all")),
    Case("not-ready-both", "both colours are not ready", (), lambda scene: scene.both("not-ready")),
    Case("dependency-both", "both colours lose their database", (), lambda scene: scene.both("dependency")),
    Case("logs-both", "both colours log the same errors", (), lambda scene: scene.both("traceback")),
    Case("rotated", "the access log is rotated", (), lambda scene: rotated(scene.proxy)),
)  # fmt: skip


def docker(*words: str) -> str:
    """What docker said; raises when it failed."""
    done = subprocess.run(("docker", *words), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode:
        raise RuntimeError(f"docker {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def asked(url: str) -> int:
    """The status that *url* is answered with; 0 for silence."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own http://127.0.0.1
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, HTTPException):
        return 0


def less_cpu(release: Release) -> None:
    """A limit that a busy loop reaches on a busy machine too."""
    docker("update", "--cpus", "0.1", release.id)


def rotated(proxy: Running) -> None:
    """Rename the log and let nginx open a new one, as logrotate does."""
    proxy.log.rename(proxy.log.with_suffix(".1"))
    subprocess.run(("kill", "-USR1", (proxy.folder / "nginx.pid").read_text().strip()), check=True)


@contextmanager
def stage() -> Iterator[Scene]:
    """Two containers of the service behind nginx, green with the traffic."""
    name = f"bench-detect-{uuid.uuid4().hex[:6]}"
    old, live = (Release(colour, f"{name}_{colour}") for colour in ("blue", "green"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for each in (old, live):
            stack.callback(_remove, each)
            each.start()
        backends = Colours(Backend("blue", old.port), Backend("green", live.port), lambda _colour: None)
        proxy = stack.enter_context(nginx(folder, backends))
        yield Scene(live, old, proxy)


def _remove(release: Release) -> None:
    with suppress(RuntimeError):
        docker("rm", "--force", "--volumes", release.id)


@contextmanager
def users(url: str) -> Iterator[None]:
    """Forty requests a second; a hung one does not hold up the others."""
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
    """What cutover.toml would say."""
    table = {
        "project": "detect",
        "colours": {colour: {"env_file": f".env.{colour}"} for colour in ("blue", "green")},
        "proxy": {
            "driver": "nginx",
            "url": f"http://127.0.0.1:{scene.proxy.port}",
            "access_log": scene.proxy.log,
        },
        "slo": {"p95": "500ms", "requests_needed": 50},
        "endpoints": [{"path": "/memories", "json": {"path": "/memories"}, "max_latency": "5s"}],
        "dependencies": [{"name": "db", "kind": "tcp", "url_key": "DB_URL"}],
    }
    return Settings.model_validate(table)


def watched(scene: Scene, case: Case) -> tuple[Observed, float]:
    """What the watch saw, and the seconds from the break to its end."""
    settings, url = settings_of(scene), f"http://127.0.0.1:{scene.proxy.port}"
    live = Target("live", "live", url, "green", scene.live.project, through_proxy=True)
    old = Target("blue", "colour", f"http://127.0.0.1:{scene.old.port}", "blue", scene.old.project)
    alive = http.client(url, 5.0)
    control = Control(lambda: isinstance(http.ask(alive, "GET", "/__cutover/alive"), http.Answer))
    with users(url):
        if case.before:
            case.before(scene)
        time.sleep(BEFORE_S)
        scene.proxy.go("green")
        asked_of = watched_for(settings, live, old, control, Evidence(), time.time())
        broken = [0.0]

        def later(left: float, _verdicts: object) -> None:
            if not broken[0] and left < longest - 3:
                broken[0] = time.monotonic()
                threading.Thread(target=case.happen, args=(scene,), daemon=True).start()

        longest = LONGEST_S if case.by else NOISY_S
        seen = watch(asked_of, longest, on_tick=later)
        return seen, time.monotonic() - broken[0]


@dataclass(frozen=True, slots=True)
class Row:
    """How one case ended."""

    case: Case
    by: str
    seconds: float
    reason: str
    no_yes: tuple[str, ...] = ()
    """Questions that were not answered with yes."""

    @property
    def right(self) -> bool:
        """Whether a bad one was caught by a question that should, and a healthy one left alone."""
        if self.case.all_yes and set(self.no_yes) - {"leak"}:
            return False
        return self.by in self.case.by if self.case.by else not self.by

    @property
    def mark(self) -> str:
        """The same as a sign."""
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
    """The section of the page."""
    bad, good = ([row for row in rows if bool(row.case.by) is kind] for kind in (True, False))
    caught, wrong = sum(row.right for row in bad), sum(not row.right for row in good)
    sure = f"{caught} of {len(bad)} bad releases were caught, {wrong} of {len(good)} healthy ones taken back."
    load = f"{USERS * EACH:.0f} requests of users a second, 2 probes a second"
    lines = [
        "## How soon a bad release is noticed", "", f"`python -m tests.bench.bench_detect` · {where}", "",
        f"{sure} {load}; seconds from the break to the end of the watch.", "",
        "| what happens | | noticed by | after | in its words |", "|---|---|---|---|---|",
        *(f"| {row.case.about} | {row.mark} | {row.by or 'nobody'} | {row.seconds:.1f} s | {said(row)} |" for row in bad),
        "", f"Healthy, each watched for {NOISY_S:.0f} s:", "", "| what happens | | taken back by | what is reported |",
        "|---|---|---|---|",
        *(f"| {row.case.about} | {row.mark} | {row.by or 'nobody'} | {said(row)} |" for row in good),
    ]  # fmt: skip
    return "\n".join(lines)


def said(row: Row) -> str:
    """The reason, in a cell."""
    return row.reason.replace("|", "\\|")[:160]


def main() -> int:
    """Measure, print, write; 1 when a bad one was missed or a healthy one taken back."""
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

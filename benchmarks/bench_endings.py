"""Check the endings of seeded releases beside faults: whether exit code, last lines and status are true.

    python -m benchmarks.bench_endings [--count N] [--first K] [--part I/N] [--left] [--seed S] [--only K] [--dry]

Each release is drawn from its seed and number (`ending_cases.py`): a good or a bad release, on the idle color with a
switch, in place, or without a proxy; a fault before, at or after the switch; an old release that may itself be unwell;
and an edit of the compose file or an env file, before or during it. An outside client asks through the proxy all the time, and
the engine is asked what runs. `ending_judge.py` compares what they say with exit code, last lines and `cutover status`.
About 25 s each on two cores; exit code 1 if an ending was not true. `--only K` tries one of them again. A result is
stored as soon as it is there, and SIGTERM ends the bench after the release that it is at. Each of `--part 1/3`,
`--part 2/3` and `--part 3/3` tries a third, side by side with the others.
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import ending_cases as cases
from benchmarks import write
from benchmarks.common import STAYS_GOOD_S, Rows, begin, merged, publish, say, table
from benchmarks.ending_cases import Case, case
from benchmarks.ending_judge import GOOD_STATUS, OK, OPERATOR, SERVER_ERROR, Sample, Seen, findings
from benchmarks.engine_relay import EngineRelay
from examples.catalogue import DEFECTS
from examples.releases import build
from examples.stand import REPOSITORY, Stand, latest
from tests.helpers.kill_points import Run, family, other

SECTION, NO_FAULT = "endings", "no fault"
LOCK = Path(tempfile.gettempdir()) / "cutover-bench-endings.lock"
REPO = "cutover-endings/api"
GOOD_TAGS = ("sha-900d001", "sha-900d002", "sha-900d003")
BROKEN_TAGS = {name: f"sha-bad{at:04x}" for at, name in enumerate(DEFECTS)}
ERRORS = "printf 'Traceback (most recent call last):\\n  x\\nLookupError: nobody\\n' >/proc/1/fd/2"
DISK = "size=48m"
EVERY_S, ANSWER_S, POLL_S = 0.05, 2.0, 0.02
AROUND_S, SETTLE_S, GUARD_S, RUN_S = 1.0, 20.0, 90.0, 240.0
MARKS: dict[str, Callable[[Run], bool]] = {
    cases.DEPLOY: lambda run: run.does("up"),
    cases.GATE: lambda run: run.told("deploy blue") or run.told("deploy green"),
    cases.FLIP: lambda run: run.does("switch"),
    cases.PROOF: lambda run: run.told("switch"),
    cases.WATCH: lambda run: run.told(f"drain {run.live}"),
    cases.REVERT: lambda run: any(
        "revert.sh" in " ".join(words) for words in family(run.process.pid).values()
    ),
}
"""Moment -> whether the session has reached it."""


# --- the client --------------------------------------------------------------------------------------------------
class Client:
    """A user outside: asks /version over and over on new connections, until `stop`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.samples: list[Sample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self) -> Sample:
        """One request."""
        at, connection = (
            time.monotonic(),
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S),
        )
        try:
            connection.request("GET", "/version", headers={"User-Agent": "outside"})
            answer = connection.getresponse()
            body, color = answer.read(), answer.getheader("X-Color") or ""
            found = json.loads(body) if answer.status == GOOD_STATUS else {}
            return Sample(at, answer.status, str(found.get("version", "")), color)
        except (OSError, ValueError, http.client.HTTPException):
            return Sample(at, 0)
        finally:
            connection.close()

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            self.samples.append(self.ask())

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join()


# --- a stand -----------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Ground(Stand):
    """A stand whose commands ask the engine through a relay."""

    relay: EngineRelay = field(init=False)

    def shell(self, **more: str) -> dict[str, str]:
        """The environment of a session, with the relay as its engine."""
        return Stand.shell(self, DOCKER_HOST=self.relay.url, **more)

    @property
    def disk(self) -> Path:
        """The reports, a small file system of their own."""
        return self.folder / "reports"

    @property
    def port(self) -> int:
        """The port that users ask."""
        return self.ports["proxy" if self.proxied else "blue"]

    def container(self, color: str) -> str:
        """The name of the container of *color*."""
        return f"{self.project(color)}-api-1"

    def tags(self, color: str) -> list[str]:
        """The tags of the running containers of *color*, as the engine says."""
        label = f"label=com.docker.compose.project={self.project(color)}"
        ids = self.docker("ps", "--quiet", "--filter", label).split()
        rows = json.loads(self.docker("inspect", *ids)) if ids else []
        return [row["Config"]["Image"].rpartition(":")[2] for row in rows if row["State"]["Running"]]

    def up(self, color: str, tag: str) -> None:
        """Start *tag* on *color* with Compose, as somebody who knows nothing of us would."""
        argv = (
            "docker", "compose", "--file", str(self.config.parent / "docker-compose.yml"), "--env-file",
            str(self.env_file(color)), "--project-name", self.project(color), "up", "--detach", "--no-deps", "api",
        )  # fmt: skip
        subprocess.run(
            argv, env=os.environ | {"IMAGE_TAG": tag}, capture_output=True, check=False, timeout=60, stdin=subprocess.DEVNULL
        )  # fmt: skip


@contextmanager
def ground(*, proxied: bool) -> Iterator[Ground]:
    """A stand with a good and verified release, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bench-endings-"))
    name = f"bench-endings-{os.getpid()}{'' if proxied else 'p'}"
    ready = "\n[ready]\njson = { ready = true }\n"  # else `ready-string` would be a good release
    on = Ground(folder, name, ready, proxied=proxied, min_uptime="1s", environment={"IMAGE_REPO": REPO})
    on.relay = EngineRelay(folder / "engine.sock")
    on.disk.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(on.disk)), check=True)
    try:
        on.make()
        begin(on, GOOD_TAGS[0])
        yield on
    finally:
        on.remove()
        subprocess.run(("umount", "--lazy", str(on.disk)), check=True)
        shutil.rmtree(folder, ignore_errors=True)


# --- faults ------------------------------------------------------------------------------------------------------
def fault_of(on: Ground, one: Case, run: Run | None, live: str, tag: str) -> Callable[[], object]:
    """Make the fault of *one* happen now; return what ends it."""
    target, old, undo = one.target(live), on.container(live), on.state / "undo.sh"
    begin_and_end: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        cases.ENGINE_REFUSES: (on.relay.refuse, on.relay.answer),
        cases.ENGINE_MUTE: (on.relay.mute, on.relay.answer),
        cases.KILLED: (lambda: _kill(on, one, run), _nothing),
        cases.ALL_KILLED: (lambda: _kill(on, one, run), _nothing),
        cases.GUARD_KILLED: (lambda: _kill(on, one, run), _nothing),
        cases.INTERRUPTED: (lambda: _interrupt(run), _nothing),
        cases.REPORTS_FULL: (lambda: _fill(on.disk), lambda: (on.disk / "full").unlink(missing_ok=True)),
        cases.PAUSED: (
            lambda: on.docker("pause", old, check=False),
            lambda: on.docker("unpause", old, check=False),
        ),
        cases.STOPPED: (lambda: on.docker("stop", "--time", "1", old, check=False), _nothing),
        cases.REMOVED: (lambda: on.docker("rm", "--force", old, check=False), _nothing),
        cases.PROXY_AWAY: (
            lambda: on.docker("kill", f"{on.name}-proxy", check=False),
            lambda: on.docker("start", f"{on.name}-proxy", check=False),
        ),
        cases.UNDO_CUT: (lambda: undo.exists() and undo.write_text(undo.read_text()[:20]), _nothing),
        cases.UNDO_GONE: (lambda: undo.unlink(missing_ok=True), _nothing),
        cases.SOMEBODY: (lambda: on.up(target, tag), _nothing),
    }
    begin_it, end_it = begin_and_end[one.fault]
    begin_it()
    return end_it


def _nothing() -> None:
    pass


def _interrupt(run: Run | None) -> None:
    if run is not None:
        run.process.send_signal(signal.SIGINT)


def _kill(on: Ground, one: Case, run: Run | None) -> None:
    guard = 0
    with suppress(OSError, ValueError):
        guard = int((on.state / "guard.pid").read_text().split()[0])
    doomed = [guard] if one.fault != cases.KILLED and guard else []
    if run is not None and one.fault != cases.GUARD_KILLED:
        with suppress(ProcessLookupError):  # stopped first, or it would start another guard
            os.killpg(run.process.pid, signal.SIGSTOP)
    for each in doomed:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    if run is not None and one.fault != cases.GUARD_KILLED:
        with suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)


def _fill(disk: Path) -> None:
    with suppress(OSError), (disk / "full").open("wb", buffering=0) as out:
        while True:
            out.write(bytes(65536))


@contextmanager
def edited(on: Ground, one: Case, live: str) -> Iterator[None]:
    """The edit of *one*, undone at the end."""
    target = one.target(live)
    file = {
        cases.COMPOSE: on.config.parent / "docker-compose.yml",
        cases.ENV_KEY: on.env_file(live),
        cases.TAG_OF_LIVE: on.env_file(live),
        cases.TAG_OF_TARGET: on.env_file(target),
    }.get(one.edit)
    if file is None:
        yield
        return
    text = file.read_text()
    if one.edit == cases.COMPOSE:
        file.write_text(text.replace("      REDIS_URL:", f"      EDITED: x{one.number}\n      REDIS_URL:", 1))
    elif one.edit == cases.ENV_KEY:
        file.write_text(f"{text}EDITED={one.number}\n")
    try:
        yield
    finally:
        if one.edit == cases.COMPOSE:
            file.write_text(text)
        else:
            _heal_env(file)


def _comment(on: Ground, one: Case, run: Run, _acting: Acting) -> None:
    """Comment the tag line when the release is open: before it, every session is refused for that."""
    if one.edit in {cases.TAG_OF_LIVE, cases.TAG_OF_TARGET} and _reached(run, cases.DEPLOY):
        color = run.live if one.edit == cases.TAG_OF_LIVE else one.target(run.live)
        file = on.env_file(color)
        file.write_text(re.sub(r"^IMAGE_TAG=", "# IMAGE_TAG=", file.read_text(), flags=re.MULTILINE))


def _heal_env(file: Path) -> None:
    """Take our edit out of an env file, and leave what was written to it meanwhile."""
    lines = [each for each in file.read_text().splitlines() if not each.startswith("EDITED=")]
    tags = [each for each in lines if each.startswith("IMAGE_TAG=")]
    if not tags:
        lines = [each.removeprefix("# ") if each.startswith("# IMAGE_TAG=") else each for each in lines]
    lines = [each for each in lines if not each.startswith("# IMAGE_TAG=")]
    file.write_text("".join(f"{each}\n" for each in lines))


def make_old(on: Ground, one: Case, live: str, tag: str) -> None:
    """Make the old release unwell in the way of *one*."""
    if one.old == cases.TRACEBACKS:
        on.docker(
            "exec", on.container(live), "sh", "-c", f"for i in 1 2 3 4 5 6; do {ERRORS}; done", check=False
        )
    elif one.old in {cases.BY_HAND, cases.BY_HAND_BAD}:
        good = next(each for each in GOOD_TAGS if each != tag)
        hand = good if one.old == cases.BY_HAND else BROKEN_TAGS["ready-503"]
        on.up(live, hand)
        _until(lambda: on.ask("/version", color=live).get("version") == hand, SETTLE_S)


# --- one release -------------------------------------------------------------------------------------------------
def words_of(one: Case, tag: str) -> tuple[str, ...]:
    """The arguments of the session."""
    match one.place:
        case cases.SWITCH:
            return ("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", "--watch=3s")
        case cases.STAGED:
            return ("smoke", "--target=idle", f"--deploy={tag}")
        case cases.IN_PLACE:
            return ("smoke", "--target=live", f"--deploy={tag}")
    return ("smoke", "--target=blue", f"--deploy={tag}")


@dataclass(slots=True)
class Acting:
    """What is done to a session while it runs, in threads that wait for their moments."""

    broke_at: float = 0.0
    landed: bool = False
    lift: list[Callable[[], object]] = field(default_factory=list)


def attempt(on: Ground, one: Case) -> tuple[Seen, str]:
    """Try *one*; what was seen of it, and the output of its session."""
    client = Client(on.port)
    try:
        live = client.ask().color or "blue"
        make_old(on, one, live, client.ask().tag)
        status: Any = on.status()
        before, verified = client.ask().tag, bool(status["colors"][live].get("verified"))
        ran = {color: on.tags(color) for color in cases.COLORS}
        choices = [each for each in GOOD_TAGS if each not in {before, *on.tags(other(live))}]
        asked = choices[0] if one.release == cases.GOOD else BROKEN_TAGS[one.release]
        with edited(on, one, live):
            acting, run, out = _session(on, one, live, before, asked)
            ended = time.monotonic()
            time.sleep(AROUND_S)
            at_end = [each for each in client.samples if each.at >= ended - AROUND_S]
            for each in acting.lift:
                each()
            code = None if one.fault in cases.DEADLY and acting.landed else run.process.returncode
            way_out = _recovered(on, one, client) if code is None else {}
        _until(lambda: client.ask().status == GOOD_STATUS, SETTLE_S)
        new = [each for each in client.samples if each.color == other(live) and each.at < ended]
        seen = Seen(
            asked, before, verified, code, *said_of(out if code is not None else ""),
            began=acting.landed, broke=bool(acting.broke_at) and acting.broke_at < ended - 1, at_end=at_end,
            settled=[client.ask() for _ in range(6)], new_failed=sum(each.status >= SERVER_ERROR for each in new),
            running={color: on.tags(color) for color in cases.COLORS}, status=on.status(),
            status_code=on.cutover("status").code, ran_before=ran, way_out=way_out,
        )  # fmt: skip
        if code == OPERATOR and seen.run:
            seen = replace(seen, way_out=_led_out(on, seen.run, client))
        if seen.way_out:
            seen = replace(seen, way_out={**seen.way_out, "status_code": on.cutover("status").code})
        return seen, out
    finally:
        client.stop()


def _session(on: Ground, one: Case, live: str, before: str, asked: str) -> tuple[Acting, Run, str]:
    acting, journal = Acting(), on.state / "journal.jsonl"
    lines = len(journal.read_text().splitlines())
    with ExitStack() as stack:
        if one.fault != cases.NONE and one.moment == cases.BEFORE:
            acting.landed = True
            _lift_later(one, acting, fault_of(on, one, None, live, before))
        said = stack.enter_context((on.folder / "said").open("w+"))
        process = stack.enter_context(
            subprocess.Popen(
                on.pytest_words(*words_of(one, asked)), stdout=said, stderr=said, text=True, env=on.shell(),
                cwd=REPOSITORY, stdin=subprocess.DEVNULL, start_new_session=True,
            )
        )  # fmt: skip
        run = Run(on, process, on.folder, live, before, asked, latest(on.folder), lines)
        threads = [
            threading.Thread(target=each, args=(on, one, run, acting)) for each in (_break, _fault, _comment)
        ]
        for each in threads:
            each.start()
        try:
            process.wait(RUN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for each in threads:
            each.join()
        said.seek(0)
        return acting, run, said.read()


def _reached(run: Run, moment: str) -> bool:
    """Wait for *moment*; whether it was reached before the session ended."""
    while run.process.poll() is None:
        with suppress(OSError, ValueError):
            if MARKS[moment](run):
                return True
        time.sleep(POLL_S)  # poll: a write of another process raises no event here
    return False


def _break(on: Ground, one: Case, run: Run, acting: Acting) -> None:
    if not one.breaks or not _reached(run, one.breaks):
        return
    target = one.target(run.live)
    if run.wanted in on.tags(target):
        on.docker("exec", on.container(target), "touch", "/tmp/break", check=False)
        acting.broke_at = time.monotonic()


def _fault(on: Ground, one: Case, run: Run, acting: Acting) -> None:
    if one.fault == cases.NONE or one.moment == cases.BEFORE or not _reached(run, one.moment):
        return
    acting.landed = True
    _lift_later(one, acting, fault_of(on, one, run, run.live, run.tag))


def _lift_later(one: Case, acting: Acting, lift: Callable[[], object]) -> None:
    """End a fault after its seconds, and make sure of that when the session is over."""
    timer = threading.Timer(one.seconds, lift)
    timer.start()
    acting.lift += [timer.join, lift]


def said_of(out: str) -> tuple[str, str, str]:
    """The word of the last lines, their sentence, and the command that they name."""
    words = (
        "RELEASED|ROLLED BACK|ROLLBACK FAILED|GATE PASSED|GATE FAILED|INCONCLUSIVE|KEPT UNVERIFIED|UNCHANGED"
    )
    found = re.findall(rf"^({words})  (.*)$", out, re.MULTILINE)
    run = re.findall(r"^  run    (.*?)(?:      \(.*\))?$", out, re.MULTILINE)
    word, sentence = found[-1] if found else ("", "")
    return word, sentence, run[-1] if run else ""


def _until(true: Callable[[], bool], most_s: float) -> bool:
    deadline = time.monotonic() + most_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)  # poll: another process acts
    return True


def _recovered(on: Ground, one: Case, client: Client) -> dict[str, Any]:
    """After the death of a session: wait for its guard, or recover if that was killed too."""
    if one.fault == cases.KILLED:
        _until(lambda: not (on.state / "open").exists(), GUARD_S)
        if not (on.state / "unrecorded.json").exists():
            return {}
    done = on.cutover("recover")
    return _way_out("cutover recover", done.code, done.last, client)


def _led_out(on: Ground, run: str, client: Client) -> dict[str, Any]:
    """Run the command that the last lines name, as a person would."""
    if run == "cutover recover":
        done = on.cutover("recover")
        return _way_out(run, done.code, done.last, client)
    one = subprocess.run(
        ("sh", "-c", run), env=on.shell(), capture_output=True, text=True, check=False, timeout=RUN_S
    )
    return _way_out(run, one.returncode, one.stdout + one.stderr, client)


def _way_out(run: str, code: int, said: str, client: Client) -> dict[str, Any]:
    served = sorted({client.ask().served for _ in range(4)})
    return {"run": run, "code": code, "said": said.strip()[-300:], "served": served}


def healed(on: Ground) -> bool:
    """Whether a good and verified release is live again and nothing is open: mended as far as one command does it."""
    on.relay.answer()
    for color in ("blue", "green"):
        _heal_env(on.env_file(color))
    client = Client(on.port)
    try:
        if on.cutover("status").code:
            on.cutover("recover")
        status: Any = on.status()
        live = status["live"] or "blue"
        fine = not status["open"] and not status["needs_operator"] and status["colors"][live].get("verified")
        if fine and client.ask().tag in GOOD_TAGS:
            return True
        used = client.ask().tag
        tag = next(each for each in GOOD_TAGS if each != used)
        target = "live" if on.proxied else "blue"
        return on.pytest("smoke", f"--target={target}", f"--deploy={tag}").code == OK
    finally:
        client.stop()


# --- all of them -------------------------------------------------------------------------------------------------
def images() -> None:
    """Build every release once."""
    for tag in GOOD_TAGS:
        build(tag, repo=REPO, seconds=STAYS_GOOD_S)
    for name, tag in BROKEN_TAGS.items():
        build(tag, name, repo=REPO, seconds=STAYS_GOOD_S)


class Grounds:
    """The stands in use, made when they are needed, and made anew if a release has left one unwell."""

    def __init__(self) -> None:
        self._stacks: dict[bool, tuple[ExitStack, Ground]] = {}

    def get(self, *, proxied: bool) -> Ground:
        """The stand with or without a proxy."""
        if proxied not in self._stacks:
            stack = ExitStack()
            self._stacks[proxied] = (stack, stack.enter_context(ground(proxied=proxied)))
        return self._stacks[proxied][1]

    def drop(self, *, proxied: bool) -> None:
        """Remove it."""
        if proxied in self._stacks:
            self._stacks.pop(proxied)[0].close()

    def close(self) -> None:
        """Remove all."""
        for each in tuple(self._stacks):
            self.drop(proxied=each)


def measure(grounds: Grounds, one: Case, where: str) -> dict[str, Any]:
    """Try *one* and judge it; print what is not true, with how to try it again."""
    proxied, begun = one.place != cases.PLAIN, time.monotonic()
    on = grounds.get(proxied=proxied)
    seen, out = attempt(on, one)
    wrong, seconds = findings(one, seen), time.monotonic() - begun
    ended = "killed" if seen.code is None else f"{seen.code} {seen.word}"
    say(f"{one.name:7} {seconds:5.1f} s  {ended:20} {one}")
    if wrong:
        say("\n".join(f"    FALSE: {each}" for each in wrong))
        say(f"    again: python -m benchmarks.bench_endings --seed {one.seed} --only {one.number} --dry")
        say("\n".join(f"    | {line}" for line in out.splitlines()[-25:]))
        say(f"    | status: {json.dumps(seen.status)}")
    if wrong or not healed(on):
        grounds.drop(proxied=proxied)
    return {
        "case": str(one), "ended": ended, "began": seen.began, "seconds": round(seconds), "false": wrong, "where": where
    }  # fmt: skip


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    true = sum(not row["false"] for row in rows.values())
    by: dict[str, list[dict[str, Any]]] = {}
    for row in rows.values():
        parts = str(row["case"]).split("; ")
        fault = next((each.partition(" (")[0] for each in parts[1:] if " (" in each), NO_FAULT)
        if fault != NO_FAULT and not row["began"]:
            fault = "over before its fault began"
        by.setdefault(fault, []).append(row)
    ends = ("0 RELEASED", "ROLLED BACK", "ROLLBACK FAILED", "killed")
    cells = [
        (
            fault,
            len(found),
            *(sum(str(row["ended"]).endswith(end) for row in found) for end in ends),
            sum(not row["false"] for row in found),
        )
        for fault, found in sorted(by.items())
    ]
    left = untried([str(row["case"]) for row in rows.values()])
    return [
        "## Endings",
        "",
        f"`python -m benchmarks.bench_endings`: **{true} of {len(rows)} endings are true**: exit code, last lines and",
        "`cutover status` each agree with what an outside client gets and with what the engine runs. Each release is",
        "drawn from a seed: good or bad, by a switch, in place or without a proxy; a fault in one of seven moments; an old",
        "release that logs tracebacks or was started by hand; an edited compose or env file.",
        *([f"No row has yet: {', '.join(left)}."] if left else []),
        "",
        *table(("fault", "releases", "kept", "reverted", "operator needed", "session killed", "true"), cells),
    ]


def untried(texts: Sequence[str]) -> list[str]:
    """The places, faults, old releases and edits that none of the cases *texts* has."""
    marks = {place: f"{place}: " for place in cases.PLACES}
    marks |= {fault: f"; {fault} (" for fault in cases.FAULTS if fault != cases.NONE}
    marks |= {f"old release {old}": f"; old release {old}" for old in cases.OLD if old != cases.WELL}
    marks |= {f"edited {edit}": f"; edited: {edit}" for edit in cases.EDITS if edit != cases.NONE}
    return [name for name, mark in marks.items() if not any(mark in text for text in texts)]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300, help="how many (300)")
    parser.add_argument("--first", type=int, default=1, help="the number of the first (1)")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only each N-th, from the I-th (1/1)")
    parser.add_argument("--left", action="store_true", help="only those without a stored true result")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="K", help="only this number")
    parser.add_argument("--dry", action="store_true", help="print only")
    return parser.parse_args(given)


def numbers_of(given: argparse.Namespace) -> range:
    """The numbers of the releases to try."""
    if given.only:
        return range(given.only, given.only + 1)
    part, _, parts = given.part.partition("/")
    return range(given.first + int(part) - 1, given.first + given.count, int(parts))


def store(rows: Rows, *, dry: bool) -> None:
    """Add *rows* to the stored ones and write the section; other parts of the bench wait for their turn."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        every = merged(SECTION, rows)
        publish(SECTION, told(every), every, dry=dry)


def main() -> int:
    """Try them, print and write the results; 1 if an ending was not true."""
    given, where, rows = arguments(), write.machine(), Rows()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    images()
    grounds = Grounds()
    try:
        for number in numbers_of(given):
            if stop.is_set():
                break
            one = case(given.seed, number)
            if given.left and merged(SECTION, {}).get(one.name, {}).get("false") == []:
                continue
            row = measure(grounds, one, where)
            rows[one.name] = row
            if not given.dry:
                with redirect_stdout(io.StringIO()):
                    store({one.name: row}, dry=False)
    finally:
        grounds.close()
    store(rows, dry=given.dry)
    return 1 if any(row["false"] for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

"""A real service, released and reverted before your eyes: ``scripts/demo``, or ``python -m examples.demo``.

Everything that it makes on the engine has a name of its own and is taken away at the end, also after Ctrl-C;
the images and the reports stay.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from examples.releases import build
from examples.stand import REPOSITORY, Stand
from examples.visitors import visiting

REPO = "cutover-demo/api"
REPORTS = REPOSITORY / "reports"
OK, BROKEN, INTERRUPTED, BUSY = 0, 1, 130, 12
TAKE_BACK_S = 180.0

DEPLOY, CUTOVER = "scripts/deploy/server_deploy.sh", "scripts/deploy/cutover.sh"


@dataclass(frozen=True, slots=True)
class Act:
    """One release: what will happen, the command, and what must be true afterwards."""

    heading: str
    script: str
    tag: str
    code: int
    serves: str
    """The release that must answer through the proxy afterwards."""
    defect: str | None = None
    more: tuple[str, ...] = ()
    breaks: bool = False
    """Whether it is made to break while it is being watched."""

    @property
    def words(self) -> tuple[str, ...]:
        """The command, as a person types it in the checkout."""
        return (self.script, "--image-tag", self.tag, *self.more)


FIRST, SECOND = "sha-1111111", "sha-2222222"
ACTS = (
    Act("A first release: deployed, gated, kept", DEPLOY, FIRST, 0, FIRST),
    Act(
        "A good release: deployed to the idle color, gated, switched, verified, watched, kept",
        CUTOVER, SECOND, 0, SECOND, more=("--watch=10s",),
    ),
    Act(
        "A bad one, in place: ready, but it is another version; the old one comes back",
        DEPLOY, "sha-3333333", 1, SECOND, "wrong-version",
    ),
    Act(
        "A bad one, in place: ready, but its log is full of errors; the old one comes back",
        DEPLOY, "sha-4444444", 1, SECOND, "error-spike",
    ),
    Act(
        "A bad one, on the idle color: a crash loop; it never gets a request",
        CUTOVER, "sha-5555555", 1, SECOND, "crash-at-start",
    ),
    Act(
        "A bad one, on the idle color: it never gets ready, and the wait for that is bounded",
        CUTOVER, "sha-6666666", 1, SECOND, "never-ready",
    ),
    Act(
        "The worst one: it passes the gate, is switched to, and breaks under traffic; the proxy flips back",
        CUTOVER, "sha-7777777", 1, SECOND, "breaks-later", more=("--watch=1m",), breaks=True,
    ),
)  # fmt: skip


def proxy_of(words: Sequence[str] | None = None) -> Literal["nginx", "traefik"]:
    """The proxy that the words of the command line ask for."""
    parser = argparse.ArgumentParser("scripts/demo", description="Releases a real service before your eyes.")
    parser.add_argument("--proxy", choices=("nginx", "traefik"), default="nginx", help="default: nginx")
    chosen: Literal["nginx", "traefik"] = parser.parse_args(words).proxy
    return chosen


def main() -> int:
    """Play all acts; 0 only if each ended as it must."""
    proxy = proxy_of()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    begun = time.monotonic()
    try:
        with alone() as lock, stage(proxy) as stand:
            results = [play(act, number, stand, lock) for number, act in enumerate(ACTS, 1)]
            results.append(status(stand))
    except BlockingIOError:
        say("a demo of this checkout is running already; nothing was started")
        return BUSY
    except KeyboardInterrupt:
        say("interrupted; what this demo made was taken away")
        return INTERRUPTED
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        say(f"the demo cannot go on: {error}")
        return BROKEN
    return ended(results, time.monotonic() - begun)


def ended(results: Sequence[bool], seconds: float) -> int:
    """The last lines, and the exit code."""
    say(f"\n{sum(results)} of {len(results)} as they must, in {seconds:.0f} s")
    say(f"the reports, one folder for each session: {REPORTS}")
    return OK if all(results) else BROKEN


# --- the stage -------------------------------------------------------------------------------------------------------
def name() -> str:
    """What everything here is called: the same for each run in this checkout, so that each tidies up for the last."""
    place = f"{os.uname().nodename}:{REPOSITORY}"
    return f"demo-{hashlib.sha256(place.encode()).hexdigest()[:6]}"


@contextmanager
def alone() -> Iterator[int]:
    """One demo a checkout; its sessions hold the lock too, so that one which outlives us is waited for."""
    handle = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def stage(proxy: Literal["nginx", "traefik"]) -> Iterator[Stand]:
    """The service's files, its releases and its proxy; taken away at the end, whatever happened."""
    for left in Path(tempfile.gettempdir()).glob(f"{name()}-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name()}-"))
    stand = Stand(folder, name(), driver=proxy, environment={"IMAGE_REPO": REPO})
    try:
        heading("Building the releases of the example service, examples/recall")
        stand.remove()
        for act in ACTS:
            said(f"{act.tag}  {act.defect or 'good'}")
            build(act.tag, act.defect, repo=REPO, seconds=3600)
        stand.make()
        said(f"{proxy} on {stand.url}, in front of blue and green")
        yield stand
    finally:
        with unhurried():
            stand.remove()
            shutil.rmtree(stand.folder, ignore_errors=True)


@contextmanager
def unhurried() -> Iterator[None]:
    """Another Ctrl-C does not stop the tidying up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- an act ----------------------------------------------------------------------------------------------------------
def play(act: Act, number: int, stand: Stand, lock: int) -> bool:
    """Release before your eyes, then ask through the proxy what runs; whether all is as it must be."""
    heading(f"{number} of {len(ACTS) + 1}: {act.heading}", "$ " + " ".join(act.words))
    with visiting(f"{stand.url}/version") as visitors:
        code = session(act, stand, lock)
    if act.tag != FIRST:
        said(f"visitors: {visitors}")
    serves = stand.ask().get("version", "nothing")
    good = (code, serves) == (act.code, act.serves)
    said(f"asked through the proxy: {serves} answers; exit {code}{', as it must' if good else ''}")
    if not good:
        said(f"NOT AS IT MUST: expected exit {act.code}, and {act.serves} to answer")
    return good


def session(act: Act, stand: Stand, lock: int) -> int:
    """Run the act's command, its output straight to this terminal; Ctrl-C is passed on once, and waited for."""
    here = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    environment = stand.shell(CUTOVER_REPORTS=str(REPORTS), PATH=here)
    before = folders(act)
    with subprocess.Popen(
        act.words, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=(lock,)
    ) as running:  # fmt: skip
        if act.breaks:
            threading.Thread(target=break_it, args=(act, stand, running, before), daemon=True).start()
        try:
            return running.wait()
        except KeyboardInterrupt:
            with unhurried(), suppress(ProcessLookupError, subprocess.TimeoutExpired):
                running.send_signal(signal.SIGINT)
                running.wait(TAKE_BACK_S)
            raise


def break_it(act: Act, stand: Stand, running: subprocess.Popen[bytes], before: frozenset[Path]) -> None:
    """As soon as the new release is being watched, make every answer of it a 500."""
    while running.poll() is None:
        steps = [row for each in folders(act) - before for row in rows(each / "evidence.jsonl")]
        drained = [row["name"].split()[1] for row in steps if str(row.get("name")).startswith("drain ")]
        if drained:
            time.sleep(4)  # some time in which all is well
            color = next(each for each in ("blue", "green") if each != drained[0])
            stand.docker("exec", f"{stand.project(color)}-api-1", "touch", f"{os.sep}tmp/break", check=False)
            return
        time.sleep(0.2)  # no event tells that another process wrote a line


def folders(act: Act) -> frozenset[Path]:
    """The reports of this act's release, those of earlier demos too."""
    return frozenset(REPORTS.glob(f"*-{act.tag}*"))


def rows(path: Path) -> list[dict[str, str]]:
    """The whole lines of a file that is being written."""
    with suppress(OSError, ValueError):
        return [
            json.loads(line)
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
            if "\n" in line
        ]
    return []


def status(stand: Stand) -> bool:
    """What a person sees who looks now; whether nothing is open."""
    heading(f"{len(ACTS) + 1} of {len(ACTS) + 1}: What runs now", "$ cutover status")
    done = stand.cutover("status")
    say(done.out.rstrip())
    return done.code == 0 and "nothing" in done.out.splitlines()[-1]


# --- saying ----------------------------------------------------------------------------------------------------------
def say(line: str) -> None:
    """Print *line* at once, also into a pipe."""
    print(line, flush=True)


def said(line: str) -> None:
    """A line of the demo's own, told apart from those of the sessions."""
    say(f"--- {line}")


def heading(*lines: str) -> None:
    """What will happen, and how it is asked for."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    say("")
    for line in lines:
        say(f"{bold}=== {line}{plain}" if line is lines[0] else f"{bold}{line}{plain}")


if __name__ == "__main__":
    sys.exit(main())

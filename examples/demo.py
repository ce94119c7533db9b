"""Release and revert the example service on this machine: ``scripts/demo``, or ``python -m examples.demo``.

Containers, networks and volumes have names of their own and are removed at the end, also after Ctrl-C.
Images and reports are kept.
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
    """One release of the demo: the command and its expected result."""

    heading: str
    script: str
    tag: str
    code: int
    serves: str
    """Tag that must respond through the proxy afterwards."""
    defect: str | None = None
    more: tuple[str, ...] = ()
    breaks: bool = False
    """Whether the release is made to fail during the watch."""

    @property
    def words(self) -> tuple[str, ...]:
        """The command line as typed in the checkout."""
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
    """The proxy chosen on the command line."""
    parser = argparse.ArgumentParser("scripts/demo", description="Releases a real service before your eyes.")
    parser.add_argument("--proxy", choices=("nginx", "traefik"), default="nginx", help="default: nginx")
    chosen: Literal["nginx", "traefik"] = parser.parse_args(words).proxy
    return chosen


def main() -> int:
    """Run all acts and return an exit code; 0 only if every act ended as expected."""
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
    """Print the summary and return the exit code."""
    say(f"\n{sum(results)} of {len(results)} as they must, in {seconds:.0f} s")
    say(f"the reports, one folder for each session: {REPORTS}")
    return OK if all(results) else BROKEN


# --- setup and cleanup -----------------------------------------------------------------------------------------------
def name() -> str:
    """Name prefix of all resources.

    It is the same for every run in this checkout, so that a run cleans up after an interrupted one.
    """
    place = f"{os.uname().nodename}:{REPOSITORY}"
    return f"demo-{hashlib.sha256(place.encode()).hexdigest()[:6]}"


@contextmanager
def alone() -> Iterator[int]:
    """Lock out a second demo in this checkout.

    Sessions inherit the lock, so a session that outlives the demo still blocks the next one.
    """
    handle = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def stage(proxy: Literal["nginx", "traefik"]) -> Iterator[Stand]:
    """Build the releases and start the stand with its proxy; remove everything at the end."""
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
    """Ignore SIGINT, SIGTERM and SIGHUP during cleanup."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- acts ------------------------------------------------------------------------------------------------------------
def play(act: Act, number: int, stand: Stand, lock: int) -> bool:
    """Run one act, then request the version through the proxy; return whether both are as expected."""
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
    """Run the act's command with its output on this terminal and return its exit code.

    Ctrl-C sends one SIGINT to the session and waits for it to revert.
    """
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
    """Wait until the watch of the new release has begun, then make it answer every request with 500."""
    while running.poll() is None:
        steps = [row for each in folders(act) - before for row in rows(each / "evidence.jsonl")]
        drained = [row["name"].split()[1] for row in steps if str(row.get("name")).startswith("drain ")]
        if drained:
            time.sleep(4)  # let the release run without errors for a few seconds
            color = next(each for each in ("blue", "green") if each != drained[0])
            stand.docker("exec", f"{stand.project(color)}-api-1", "touch", f"{os.sep}tmp/break", check=False)
            return
        time.sleep(0.2)  # poll: a write to another process's file raises no event here


def folders(act: Act) -> frozenset[Path]:
    """Report folders of this act's tag, including those of earlier demos."""
    return frozenset(REPORTS.glob(f"*-{act.tag}*"))


def rows(path: Path) -> list[dict[str, str]]:
    """Parse the complete lines of a JSON Lines file that is still being written."""
    with suppress(OSError, ValueError):
        return [
            json.loads(line)
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
            if "\n" in line
        ]
    return []


def status(stand: Stand) -> bool:
    """Print `cutover status`; return whether it reports no open release."""
    heading(f"{len(ACTS) + 1} of {len(ACTS) + 1}: What runs now", "$ cutover status")
    done = stand.cutover("status")
    say(done.out.rstrip())
    return done.code == 0 and "nothing" in done.out.splitlines()[-1]


# --- output ----------------------------------------------------------------------------------------------------------
def say(line: str) -> None:
    """Print *line* and flush, so that it also appears at once in a pipe."""
    print(line, flush=True)


def said(line: str) -> None:
    """Print a line of the demo itself, with a prefix that sets it apart from session output."""
    say(f"--- {line}")


def heading(*lines: str) -> None:
    """Print a heading, in bold on a terminal."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("", "")
    say("")
    for line in lines:
        say(f"{bold}=== {line}{plain}" if line is lines[0] else f"{bold}{line}{plain}")


if __name__ == "__main__":
    sys.exit(main())

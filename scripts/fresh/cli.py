"""scripts/test and scripts/demo: make the machine ready, then become the command that was asked for."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.fresh import apt, compose, engine, image, lint, venv
from scripts.fresh.run import SBIN, Words
from scripts.fresh.steps import StopError, fail, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
# The tests mostly wait, so two files run at a time; in order, for the last ones are short.
WHOLE = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
USAGE = "usage: python3 -m scripts.fresh engine | test [pytest arguments] | demo [arguments]"


def last_words(command: str, python: str, rest: Sequence[str]) -> Words:
    """What the process becomes when the machine is ready."""
    modules = {"test": "pytest", "demo": "examples.demo"}
    whole = WHOLE if command == "test" and not rest else ()
    return (python, "-m", modules[command], *whole, *rest)


def path(tools: Path, before: str) -> str:
    """The PATH of what comes: the pinned tools first, the administrators' last."""
    return os.pathsep.join((str(tools), before, *SBIN))


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Two runs in one checkout make the environment one after the other."""
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def ready(command: str) -> venv.Venv:
    """Everything that *command* needs is there when this returns."""
    with alone(ROOT):
        made = venv.ensure(ROOT)
        engine.ensure()
        compose.ensure(made.bin)
        image.ensure()
        if command == "test":
            _packages()
    return made


def _packages() -> None:
    packages = apt.missing(apt.TESTS)
    if packages and apt.can_install():
        apt.install(*packages)
        return
    for package in packages:
        say(f"missing: {package.name} ({package.reason}): {apt.by_hand(package)}")


def become(words: Words, tools: Path) -> None:
    """Replace this process: its exit code and its last line are those of *words*."""
    # A shell that started us in the background had SIGINT ignored, and it would be so for every child.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ["PATH"] = path(tools, os.environ.get("PATH", os.defpath))
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(words[0], words)  # noqa: S606 - no shell is wanted


def main(arguments: Sequence[str]) -> int:
    """Make the machine ready for the first argument, and run it with the others."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", ())
    if command not in {"engine", "test", "demo"}:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        made = ready(command)
        if command == "test":
            lint.run(ROOT, made.bin)
    except StopError as error:
        return fail(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if command != "engine":
        become(last_words(command, made.python, rest), made.bin)
    return 0

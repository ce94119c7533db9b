"""Run commands with a deadline, print one line per step, install Debian packages. Standard library only."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICY = Path("/usr/sbin/policy-rc.d")
TIMED_OUT = 124  # as timeout(1) reports it
# apt waits for another apt to finish: an unattended upgrade after boot takes minutes.
APT = (
    *("env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=l", "LC_ALL=C.UTF-8"),
    *("apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300"),
)


class SetupError(Exception):
    """The machine cannot be prepared; the message names the action required."""


def run(*argv: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run *argv* and return code and output; a timeout is code 124, a missing program code 127."""
    try:
        return subprocess.run(
            argv, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, TIMED_OUT, f"no answer within {timeout:.0f} s")
    except OSError as error:
        return subprocess.CompletedProcess(argv, 127, str(error))


def must_run(*argv: str, timeout: float) -> str:
    """Run *argv* and return its output; raise SetupError with the last lines if it fails."""
    done = run(*argv, timeout=timeout)
    if done.returncode:
        raise SetupError(f"{shlex.join(argv)}: exit code {done.returncode}\n{last_lines(done.stdout)}")
    return done.stdout


def last_lines(text: str) -> str:
    """The last 20 lines of *text*, indented."""
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-20:])


@contextmanager
def step(name: str) -> Iterator[None]:
    """Print *name*, and on the same line how long the block took."""
    started = time.monotonic()
    print(f"{name} ... ", end="", flush=True)
    outcome = "failed after "
    try:
        yield
        outcome = ""
    finally:
        print(f"{outcome}{time.monotonic() - started:.1f} s", flush=True)


def can_install() -> bool:
    """Whether this is root on a machine with apt."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def manual_install(*packages: str) -> str:
    """The command to run by hand where `can_install` is false."""
    return f"sudo apt-get install --no-install-recommends {' '.join(packages)}"


def apt_install(*packages: str) -> None:
    """Install *packages* with one apt command, without starting the daemons that they contain."""
    if not can_install():
        raise SetupError(f"only root on Debian or Ubuntu can install packages: {manual_install(*packages)}")
    # Keep modified configuration files.
    options = ("--no-install-recommends", "-o", "Dpkg::Options::=--force-confold")
    with step(f"apt: installing {', '.join(packages)}"), no_daemons():
        for _ in range(12):
            updated = run(*APT, "update", timeout=300)
            # DPkg::Lock::Timeout does not cover the lock of the package lists.
            if "Could not get lock" not in updated.stdout:
                break
            time.sleep(5)
        done = updated if updated.returncode else run(*APT, "install", *options, *packages, timeout=900)
    if done.returncode:
        hint = f"apt could not install; by hand: {manual_install(*packages)}"
        raise SetupError(f"{hint}\n{last_lines(done.stdout)}")


@contextmanager
def no_daemons() -> Iterator[None]:
    """Prevent packages from starting daemons: nginx-light would take port 80 of the machine."""
    if POLICY.exists():
        yield
        return
    try:
        POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")  # 101: forbidden by policy
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)

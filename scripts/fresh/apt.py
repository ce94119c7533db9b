"""Debian packages: which, why, and how they are installed without starting anything."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scripts.fresh.run import Done, Words, ask, which
from scripts.fresh.steps import StopError, step, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

POLICY = Path("/usr/sbin/policy-rc.d")
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l", "LC_ALL": "C.UTF-8"}
# apt waits itself for another apt to finish; an unattended upgrade right after boot takes minutes.
APT: Words = ("apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=300")
UPDATE: Words = (*APT, "update")


class Package(NamedTuple):
    """A Debian package, the tool by which it is known to be there, and why it is wanted."""

    name: str
    tool: str
    reason: str


VENV = Package("python3-venv", "", "python3 -m venv needs ensurepip, which Debian packs apart")
ENGINE = Package("docker.io", "dockerd", "the engine that releases run on")
CLIENT = Package("docker-cli", "docker", "the client, where the distribution packs it apart")
BOOTSTRAP = Package("mmdebstrap", "mmdebstrap", "builds the base image where none can be pulled")
TESTS = (
    Package("nginx-light", "nginx", "the proxy of the switch under load, with its real configuration"),
    Package("haproxy", "haproxy", "a team's own switch, through the driver `command`"),
    Package("socat", "socat", "how that switch speaks to HAProxy's runtime socket"),
    Package("chromium", "chromium", "the report is read in a real browser"),
    Package("openssh-client", "ssh", "a remote release goes through ssh"),
)


def missing(packages: tuple[Package, ...], find: Callable[[str], str | None] = which) -> tuple[Package, ...]:
    """Those of *packages* whose tool is nowhere: a tool that came another way is as good."""
    return tuple(package for package in packages if find(package.tool) is None)


def install_words(*packages: Package) -> Words:
    """The one call that installs *packages*, and keeps each configuration file that a person changed."""
    keep = ("-o", "Dpkg::Options::=--force-confold")
    return (*APT, "install", "--no-install-recommends", *keep, *(package.name for package in packages))


def can_install() -> bool:
    """Whether this is root on a machine with apt."""
    return os.geteuid() == 0 and which("apt-get") is not None


def by_hand(*packages: Package) -> str:
    """What a person has to run where we may not."""
    return f"sudo apt-get install --no-install-recommends {' '.join(package.name for package in packages)}"


@contextmanager
def no_daemons(policy: Path = POLICY) -> Iterator[None]:
    """No package starts its daemon meanwhile: nginx-light would take port 80 of the machine."""
    if policy.exists():
        yield
        return
    try:
        # 101 is Debian's word for "forbidden".
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink(missing_ok=True)


def install(*packages: Package) -> None:
    """Install *packages*; stop, with the end of what apt said, when that fails."""
    with step(f"apt: installing {', '.join(package.name for package in packages)}"), no_daemons():
        # The lists of packages have a lock that apt does not wait for.
        done = _patiently(UPDATE, seconds=300)
        if done.ok:
            done = ask(install_words(*packages), seconds=900, env=QUIET)
    if not done.ok:
        raise StopError(f"apt could not install; by hand: {by_hand(*packages)}\n{tail(done.output)}")


def _patiently(words: Words, *, seconds: float, tries: int = 12) -> Done:
    done = ask(words, seconds=seconds, env=QUIET)
    for _ in range(tries):
        if done.ok or "Could not get lock" not in done.output:
            break
        time.sleep(5)
        done = ask(words, seconds=seconds, env=QUIET)
    return done

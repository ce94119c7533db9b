"""A Docker engine that answers: the one that is there, else the distribution's, started without an init."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from scripts.fresh import apt
from scripts.fresh.run import MUTE, Done, Words, ask, must, which
from scripts.fresh.steps import StopError, say, step, tail

VERSION: Words = ("docker", "version", "--format", "{{.Server.Version}}, API {{.Server.APIVersion}}")
LOG = Path("/var/log/cutover-dockerd.log")
SYSTEMD = Path("/run/systemd/system")
# Who wrote the file, and what that process is called: after a crash its number may be somebody else's,
# and the engine would then refuse to start for ever.
PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/var/run/docker/containerd/containerd.pid"): "containerd",
}
START_SECONDS = 90.0


def start_words(dockerd: str) -> Words:
    """What starts the engine in a session of its own, as a child of nobody here."""
    return ("setsid", "--fork", dockerd)


def is_stale(pid_file: Path, name: str, proc: Path = Path("/proc")) -> bool:
    """Whether *pid_file* names a process that is not *name*."""
    try:
        pid = int(pid_file.read_text(encoding="ascii").strip())
        return (proc / str(pid) / "comm").read_text(encoding="utf-8").strip() != name
    except FileNotFoundError:
        return pid_file.exists()
    except ValueError:
        return True


def advice(answer: Done, host: str | None, *, may_install: bool) -> str | None:
    """Why starting an engine would be wrong or impossible, as a person would want to read it."""
    if "permission denied" in answer.output.lower():
        return "an engine is there, but you may not use it: sudo usermod -aG docker $USER, then log in again"
    if answer.output.startswith(MUTE):
        return f"an engine is there, but mute ({answer.output}): look at its log, or restart it"
    if host:
        return f"the engine at DOCKER_HOST={host} does not answer: start it, or unset DOCKER_HOST"
    if not may_install:
        return f"no Docker engine answers, and only root may start one: {apt.by_hand(apt.ENGINE)}"
    return None


def ensure() -> None:
    """An engine answers when this returns."""
    answer = ask(VERSION, seconds=30)
    if answer.ok:
        say(f"engine: using the one that answers ({answer.output.strip()})")
        return
    problem = advice(answer, os.environ.get("DOCKER_HOST"), may_install=apt.can_install())
    if problem:
        raise StopError(problem)
    say("engine: none answers; installing what is missing of the distribution's, and starting it")
    for package in (apt.ENGINE, apt.CLIENT):
        if apt.missing((package,)):
            apt.install(package)
    with step(f"engine: starting it, log in {LOG}"):
        _start()
        version = _wait()
    say(f"engine: {version}")


def _start() -> None:
    if SYSTEMD.is_dir():
        must(("systemctl", "start", "docker"), seconds=START_SECONDS)
        return
    for pid_file, name in PID_FILES.items():
        if is_stale(pid_file, name):
            pid_file.unlink()
    dockerd = which("dockerd")
    if dockerd is None:
        raise StopError("docker.io is installed, but there is no dockerd")
    with LOG.open("ab") as log:
        subprocess.run(
            start_words(dockerd),
            check=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _wait() -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        answer = ask(VERSION, seconds=30)
        if answer.ok:
            return answer.output.strip()
        time.sleep(0.3)
    log = LOG.read_text(encoding="utf-8", errors="replace") if LOG.exists() else ""
    raise StopError(f"the engine did not answer within {START_SECONDS:.0f} s\n{tail(log)}")

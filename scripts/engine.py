"""Ensure a Docker engine, the Compose plugin and the base image; install what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from scripts.system import (
    TIMED_OUT,
    SetupError,
    apt_install,
    can_install,
    last_lines,
    manual_install,
    must_run,
    run,
    step,
)

ENGINE_VERSION = ("docker", "version", "--format", "{{.Server.Version}}, API {{.Server.APIVersion}}")
COMPOSE_VERSION = ("docker", "compose", "version", "--short")
LOG = Path("/var/log/cutover-dockerd.log")
START_TIMEOUT = 90.0
PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/var/run/docker/containerd/containerd.pid"): "containerd",
}
BASE_IMAGE = "debian:bookworm-slim"
SUITE = "bookworm"
# apt settings that a container also needs to reach this machine's mirror.
APT_TRANSPORT = re.compile(
    r'Acquire::(?:(?:https?|ftp)::(?:Proxy|Verify-\w+|CaInfo)|Check-(?:Valid-Until|Date)) (?!"";$).',
    re.IGNORECASE,
)
SLIM = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)


def ensure_engine() -> None:
    """Return when a Docker engine responds; install and start the distribution's engine if there is none."""
    asked = run(*ENGINE_VERSION, timeout=30)
    if asked.returncode == 0:
        print(f"engine: using the one that is running ({asked.stdout.strip()})", flush=True)
        return
    reason = why_not_start(asked, os.environ.get("DOCKER_HOST"), may_install=can_install())
    if reason:
        raise SetupError(reason)
    print("engine: none is running; installing and starting the distribution's", flush=True)
    # Newer distributions ship the client in a package of its own.
    for package, program in (("docker.io", "dockerd"), ("docker-cli", "docker")):
        if not shutil.which(program):
            apt_install(package)
    with step(f"engine: starting it, log in {LOG}"):
        _start_engine()
        version = _wait_for_engine()
    print(f"engine: {version}", flush=True)


def why_not_start(
    asked: subprocess.CompletedProcess[str], docker_host: str | None, *, may_install: bool
) -> str | None:
    """Reason why no engine can be started here, as one line for the terminal; None if one can."""
    if "permission denied" in asked.stdout.lower():
        return (
            "an engine is running, but you may not use it: sudo usermod -aG docker $USER, then log in again"
        )
    if asked.returncode == TIMED_OUT:
        return f"an engine is running, but does not respond ({asked.stdout}): see its log, or restart it"
    if docker_host:
        return f"the engine at DOCKER_HOST={docker_host} does not answer: start it, or unset DOCKER_HOST"
    if not may_install:
        return f"no Docker engine answers, and only root can start one: {manual_install('docker.io')}"
    return None


def is_stale(pid_file: Path, name: str, proc: Path = Path("/proc")) -> bool:
    """Whether *pid_file* contains the id of a process other than *name*; the engine would then refuse to start."""
    try:
        pid = int(pid_file.read_text(encoding="ascii").strip())
        return (proc / str(pid) / "comm").read_text(encoding="utf-8").strip() != name
    except FileNotFoundError:
        return pid_file.exists()
    except ValueError:
        return True


def _start_engine() -> None:
    if Path("/run/systemd/system").is_dir():
        must_run("systemctl", "start", "docker", timeout=START_TIMEOUT)
        return
    for pid_file, name in PID_FILES.items():
        if is_stale(pid_file, name):
            pid_file.unlink()
    # In a session of its own, so that it outlives this process and its terminal.
    start = f"cd / && exec setsid --fork dockerd </dev/null >>{LOG} 2>&1"
    subprocess.run(("sh", "-c", start), check=True)


def _wait_for_engine() -> str:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        asked = run(*ENGINE_VERSION, timeout=30)
        if asked.returncode == 0:
            return asked.stdout.strip()
        time.sleep(0.3)
    log = LOG.read_text(encoding="utf-8", errors="replace") if LOG.exists() else ""
    raise SetupError(f"the engine did not answer within {START_TIMEOUT:.0f} s\n{last_lines(log)}")


def ensure_compose(binary: Path) -> None:
    """Return when `docker compose` works; copy *binary* to the user's plugins if it does not."""
    asked = run(*COMPOSE_VERSION, timeout=30)
    if asked.returncode == 0:  # Compose v1 is not a plugin, so it is never found here
        print(f"compose: using the installed plugin ({asked.stdout.strip()})", flush=True)
        return
    home = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    plugin = Path(home) / "cli-plugins" / "docker-compose"
    if plugin.exists():
        why = f"the Compose plugin {plugin} does not work: remove it and try again"
        raise SetupError(f"{why}\n{asked.stdout}")
    with step(f"compose: installing the plugin to {plugin}"):
        # An atomic copy and not a link, which would dangle once this checkout is deleted.
        plugin.parent.mkdir(parents=True, exist_ok=True)
        part = plugin.with_name(f".{plugin.name}.{os.getpid()}")
        shutil.copy2(binary, part)
        part.chmod(0o755)
        part.replace(plugin)
        must_run(*COMPOSE_VERSION, timeout=60)


def ensure_base_image() -> None:
    """Return when the base image is present; pull it, else build it from this machine's Debian mirror."""
    if run("docker", "image", "inspect", BASE_IMAGE, timeout=30).returncode == 0:
        print(f"base image: {BASE_IMAGE} is present", flush=True)
        return
    with step(f"base image: pulling {BASE_IMAGE}"):
        pulled = run("docker", "pull", "--quiet", BASE_IMAGE, timeout=60).returncode == 0
    if pulled:
        return
    print("base image: no registry has it; building it from this machine's mirror", flush=True)
    if not shutil.which("mmdebstrap"):
        apt_install("mmdebstrap")
    sources = source_lists(platform.freedesktop_os_release(), Path("/etc/apt"))
    options = apt_transport(must_run("apt-config", "dump", timeout=60))
    with step(f"base image: building {BASE_IMAGE}"), tempfile.TemporaryDirectory() as folder:
        archive = str(Path(folder, "root.tar"))
        must_run(*build_argv(archive, sources, options), timeout=900)
        must_run("docker", "import", "--change", 'CMD ["bash"]', archive, BASE_IMAGE, timeout=300)


def apt_transport(dump: str) -> list[str]:
    """The lines of `apt-config dump` with proxies, certificates and clock checks."""
    return [line for line in dump.splitlines() if APT_TRANSPORT.match(line)]


def source_lists(release: dict[str, str], folder: Path) -> list[str]:
    """Source lists of this machine if it runs the image's suite; else empty, which selects mmdebstrap's default."""
    if (release.get("ID"), release.get("VERSION_CODENAME")) != ("debian", SUITE):
        return []
    lists = [folder / "sources.list", *sorted(folder.glob("sources.list.d/*.sources"))]
    return [str(path) for path in lists if path.is_file() and "debian" in path.read_text(encoding="utf-8")]


def build_argv(archive: str, sources: list[str], options: list[str]) -> tuple[str, ...]:
    """The mmdebstrap command that writes the root file system of the image to *archive*."""
    apt = [f"--aptopt={option}" for option in options]
    slim = [f"--dpkgopt={option}" for option in SLIM]
    return ("mmdebstrap", "--quiet", "--variant=minbase", *apt, *slim, SUITE, archive, *sources)

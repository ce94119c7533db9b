"""Cases of the watch benchmark: failures of a live release, and harmless events."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from examples.images import image
from examples.stand import pause
from tests.helpers.color_servers import free_port, wait_until
from tests.helpers.real_proxies import Running

DEADLINE_S = 120.0
PROGRAM = (Path(__file__).parent / "breakable.py").read_text()
LIMITS = ("--memory", "128m", "--memory-swap", "128m", "--cpus", "0.3")
HEALTH = (
    "--health-cmd", "test ! -e /tmp/sick", "--health-interval", "1s", "--health-retries", "2",
)  # fmt: skip


@dataclass(slots=True)
class Release:
    """One container of the breakable service."""

    color: str
    project: str
    port: int = field(default_factory=free_port)
    id: str = ""

    def start(self) -> None:
        """Run the container with the labels that Compose sets, by which the checks find it."""
        labels = {"project": self.project, "service": "api", "oneoff": "False"}
        given = [f"--label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        self.id = docker(
            "run", "--detach", "--init", "--restart", "always", *given, *LIMITS, *HEALTH, "--env",
            f"COLOR={self.color}", "--env", "DB_URL=tcp://127.0.0.1:9999", "--publish",
            f"127.0.0.1:{self.port}:8000", image("base"), "python3", "-c", PROGRAM,
        )  # fmt: skip
        wait_until(
            lambda: asked(f"http://127.0.0.1:{self.port}/readyz") == 200, "the service answers", DEADLINE_S
        )

    def breaks(self, how: str) -> None:
        """Trigger the failure *how*."""
        asked(f"http://127.0.0.1:{self.port}/__break?how={how}")


@dataclass(slots=True)
class Scene:
    """Both colors and the proxy."""

    live: Release
    old: Release
    proxy: Running

    def both(self, how: str) -> None:
        """Trigger a failure on both colors, the old one first."""
        self.old.breaks(how)
        self.live.breaks(how)


Act = Callable[[Scene], object]


@dataclass(frozen=True, slots=True)
class Case:
    """A failure of a release, or a harmless event."""

    name: str
    about: str
    by: tuple[str, ...] = ()
    """Checks that may report it; empty for a healthy release."""
    act: Act | None = None
    """Action during the watch; by default the failure *name* is triggered on the live color."""
    before: Act | None = None
    """Action before the watch."""
    all_yes: bool = False
    """Whether every check must end with yes, except the leak check, which needs more time."""

    def happen(self, scene: Scene) -> None:
        """Run the action of the case."""
        if self.act is None:
            scene.live.breaks(self.name)
        else:
            self.act(scene)


HTTP = ("availability", "5xx", "routes", "latency", "endpoints")
GONE = ("availability", "5xx", "restarts", "health", "oom")
CASES = (
    Case("5xx-all", "every request fails", HTTP),
    Case("5xx-half", "every second request fails", HTTP),
    Case("5xx-tenth", "one request in ten fails", HTTP),
    Case("not-found", "a route answers 404", ("routes", "endpoints")),
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
    Case("paused", "docker pause", GONE, lambda scene: pause(scene.live.id)),
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
    Case("dependency", "the live color alone loses its database", ("dependency db",)),
    Case("switched", "somebody else switches the proxy", ("color",), lambda scene: scene.proxy.go("blue")),
    Case("steady", "nothing happens", (), lambda _scene: None, all_yes=True),
    Case("5xx-rare", "one request in 500 fails"),
    Case("slow-rare", "one answer in 50 takes 1 s"),
    Case("slow-bit", "each answer takes 0.15 s, within the SLO"),
    Case("chatty", 'INFO lines with the word "ERROR"'),
    Case("errors-as-before", "an error each 2 s, as the old color had", (), None, lambda scene: scene.old.breaks("errors-as-before")),
    Case("garbage-collector", "memory goes up and down by 20 MB"),
    Case("cpu-spike", "a busy core for 5 s"),
    Case("old-dies", "the old color is killed", (), lambda scene: docker("rm", "--force", scene.old.id)),
    Case("old-restarts", "the old color restarts", (), lambda scene: docker("restart", "--time", "1", scene.old.id)),
    Case("old-unhealthy", "the old color gets unhealthy", (), lambda scene: scene.old.breaks("unhealthy")),
    Case("5xx-both", "both colors answer 503, but for /readyz: the database is down", (), lambda scene: scene.both("5xx-both")),
    Case("slow-both", "both colors need 0.8 s for an answer", (), lambda scene: scene.both("slow-all")),
    Case("not-ready-both", "both colors are not ready", (), lambda scene: scene.both("not-ready")),
    Case("dependency-both", "both colors lose their database", (), lambda scene: scene.both("dependency")),
    Case("logs-both", "both colors log the same errors", (), lambda scene: scene.both("traceback")),
    Case("rotated", "the access log is rotated", (), lambda scene: rotated(scene.proxy)),
)  # fmt: skip


def docker(*words: str) -> str:
    """Output of a docker command; RuntimeError if it fails."""
    done = subprocess.run(("docker", *words), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode:
        raise RuntimeError(f"docker {words[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def asked(url: str) -> int:
    """Status of the response from *url*; 0 if there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own http://127.0.0.1
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, HTTPException):
        return 0


def less_cpu(release: Release) -> None:
    """Lower the CPU limit so that a busy loop reaches it even on a loaded machine."""
    docker("update", "--cpus", "0.1", release.id)


def rotated(proxy: Running) -> None:
    """Rename the log and make nginx reopen it, as logrotate does."""
    proxy.log.rename(proxy.log.with_suffix(".1"))
    subprocess.run(("kill", "-USR1", (proxy.folder / "nginx.pid").read_text().strip()), check=True)

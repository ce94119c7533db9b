"""Port swap driver: no proxy; the new color is recreated on the users' port, with a gap in between."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from cutover.core.change import Change, line
from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.core.target import ControlProbe
from cutover.core.verdict import Verdict
from cutover.proxy.base import Driver, Live, ProxyClient, other
from cutover.proxy.command import judge_status, printed_color
from cutover.system import process
from cutover.system.compose import Compose
from cutover.system.files import write_atomically

SWAPPED_FILE = "port-swap.yml"
"""`releases/<color>/port-swap.yml`: the color's release on the users' port (see `publish_on`)."""
OWN_PORT_FILE = "own-port.yml"
"""The idle color's release on its own port; exists only if the undo has to start it there again."""
START_BUDGET_S = 60.0
STOP_BUDGET_S = 330.0  # covers a stop_grace_period of 5 min
DOCKER_PS_DEADLINE_S = 10.0
PROJECT_LABEL = "com.docker.compose.project"
# Both release files must exist before the old color is stopped: it is the only one that answers.
STOP_IF_BOTH_FILES = (
    '[ -s "$1" ] && [ -s "$2" ] || { echo "$1 or $2 is missing: nothing was stopped" >&2; exit 1; }; '
    'shift 2; exec "$@"'
)
RUN_IF_FILE = '[ -s "$1" ] || exit 0; shift; exec "$@"'
# As long as the old color holds the port the swap has not begun: nothing to do.
FREE_PORT = (
    '[ -n "$(docker ps --quiet --filter "publish=$1" --filter "label=com.docker.compose.project=$2")" ] '
    '|| exec sh "$3" "$4" "$5" "" true'
)


@dataclass(frozen=True, slots=True)
class PortSwap(Driver):
    """The runbook's variant without a proxy: stop the old color, recreate the other one on the users' port."""

    live_port: int
    state: Path
    projects: Mapping[str, str]
    service: str
    client: ProxyClient
    wait_s: float = START_BUDGET_S
    name = "port-swap"
    color_line = "there is no proxy that could add it, so the service has to send {header}: <color> itself"
    has_gap = True
    keeps_old_color = False

    @classmethod
    def of(cls, settings: Settings, _ports: dict[str, int]) -> Self:
        """The driver that `[proxy]` describes; raises ConfigError for a URL without a port."""
        proxy = settings.proxy
        port = urlsplit(proxy.url).port if proxy else None
        if proxy is None or not port:
            why = "[proxy] url is missing: http://127.0.0.1:PORT, the port that users know"
            raise ConfigError(f"{settings.source}: {why}")
        port = proxy.live_port or port
        projects = {color: settings.compose_project(color) for color in settings.colors}
        wait_s = settings.gate.start_timeout or START_BUDGET_S
        return cls(port, settings.state, projects, settings.service, ProxyClient.of(settings), wait_s)

    def live(self) -> Live:
        """The live color by the response on the users' port; if that names none, by the container that holds it."""
        answered = self.client.answering()
        if answered.color:
            return answered
        if name := printed_color(self._holder()):
            return Live(name, f"{name} has port {self.live_port}, and did not say its color")
        return Live(None, f"the color on port {self.live_port} is unknown: {answered.how}")

    def agreed(self) -> Verdict:
        """Yes if the color that answers on the port is that of the container that holds it."""
        return judge_status(self._holder(), self.live())

    def switch(self, to: str) -> Change:
        """Stop the old color, then start *to* on its port; the gap is as long as the start takes."""
        old, script = other(to), str(self.state / "restore-service.sh")
        files = (str(self._file(to, SWAPPED_FILE)), str(self._file(old, SWAPPED_FILE)))
        stop = ("sh", script, self.projects[old], self.service, "")
        free = (str(self.live_port), self.projects[old], script, self.projects[to], self.service)
        own, budget_s = str(self._file(to, OWN_PORT_FILE)), STOP_BUDGET_S + self.wait_s
        undo = (
            line("sh", "-c", FREE_PORT, "sh", *free, within_s=STOP_BUDGET_S),
            line(*self._ensure(old, SWAPPED_FILE), within_s=budget_s),
            # *to* was warm on its own port before, unless this release deployed it: start it there again.
            line("sh", "-c", RUN_IF_FILE, "sh", own, *self._ensure(to, OWN_PORT_FILE), within_s=budget_s),
        )
        text = f"{old} → {to} on port {self.live_port}: no color answers users while {to} starts"
        do = ("sh", "-c", STOP_IF_BOTH_FILES, "sh", *files, *stop, *self._up(to, SWAPPED_FILE))
        return Change("switch", text, do, undo, budget_s)

    def control(self) -> ControlProbe:
        """Whether the engine says that a container holds the users' port."""
        return ControlProbe(lambda: bool(self._holder().out.strip()), f"docker ps, port {self.live_port}")

    def own_port(self, color: str, live: str | None) -> int | None:
        """The users' port for the live color; None for the other one."""
        return self.live_port if color == live else None

    def on_commit(self, to: str, ports: Mapping[str, int]) -> dict[str, int]:
        """The users' port for *to*, and the port that *to* had for the other color, as the runbook has it."""
        return {} if ports[to] == self.live_port else {to: self.live_port, other(to): ports[to]}

    def _file(self, color: str, name: str) -> Path:
        return self.state / "releases" / color / name

    def _up(self, color: str, name: str) -> tuple[str, ...]:
        return Compose(self.projects[color], self._file(color, name)).up(self.service, wait_s=self.wait_s)

    def _ensure(self, color: str, name: str) -> tuple[str, ...]:
        script = str(self.state / "ensure-running.sh")
        return ("sh", script, self.projects[color], self.service, *self._up(color, name))

    def _holder(self) -> process.CompletedCommand:
        # In the form of a status command: the color whose container publishes the users' port.
        shown = ("--filter", f"publish={self.live_port}", "--format", f'{{{{.Label "{PROJECT_LABEL}"}}}}')
        done = process.run(("docker", "ps", *shown), deadline_s=DOCKER_PS_DEADLINE_S)
        names = {project: color for color, project in self.projects.items()}
        out = "\n".join(names.get(each, each) for each in done.out.split())
        return process.CompletedCommand(done.argv, done.code, out, done.err)


def write_swapped_releases(state: Path, releases: Mapping[str, Path], service: str, port: int) -> None:
    """Write the release file of each color on the users' *port*: one for the switch, one for its undo."""
    for color, release in releases.items():
        text = publish_on(release.read_text(encoding="utf-8"), service, port)
        write_atomically(state / "releases" / color / SWAPPED_FILE, text)


def publish_on(release: str, service: str, port: int) -> str:
    """The text of the release file *release*, with *service* published on *port*."""
    model = json.loads(release)
    for row in model["services"][service].get("ports") or ():
        if row.get("published"):
            row["published"] = str(port)
            break
    return json.dumps(model)

"""No proxy: the new colour takes over the port that users know, with a gap between the two."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cutover.changes import Change, line
from cutover.core.config import Settings
from cutover.core.errors import UsageProblem
from cutover.core.verdict import Verdict
from cutover.proxies import COLOURS, Live, other
from cutover.proxies.asking import Way, ask, colour_of
from cutover.proxies.command import judge
from cutover.state import write_atomically
from cutover.system import process
from cutover.system.compose import Compose
from cutover.target import Control

RELEASE = "port-swap.yml"
"""`releases/<colour>/port-swap.yml`: the colour's release on the live port (see `published_on`)."""
OWN = "own-port.yml"
"""The idle colour's release on its own port, there only where coming back starts it again."""
WAIT_S = 60.0
STOP_S = 330.0  # bounds also a stop_grace_period of 5 min
ASK_S = 10.0
LABEL = "com.docker.compose.project"
# Not before both ways are there: the old colour is the only one that answers.
TAKE = (
    '[ -s "$1" ] && [ -s "$2" ] || { echo "$1 or $2 is missing: nothing was stopped" >&2; exit 1; }; '
    'shift 2; exec "$@"'
)
AGAIN = '[ -s "$1" ] || exit 0; shift; exec "$@"'
# Nothing to do while the old colour still has the port: the swap never began.
FREE = (
    '[ -n "$(docker ps --quiet --filter "publish=$1" --filter "label=com.docker.compose.project=$2")" ] '
    '|| exec sh "$3" "$4" "$5" "" true'
)


@dataclass(frozen=True, slots=True)
class PortSwap:
    """The runbook's variant without a proxy: recreate with the other port, the old colour stopped first."""

    live_port: int
    state: Path
    projects: Mapping[str, str]
    service: str
    way: Way
    wait_s: float = WAIT_S
    name: str = "port-swap"

    def live(self) -> Live:
        """The live colour by the answer on the live port; silent, by whose container holds the port."""
        answer = ask(self.way.url, self.way.path, verify=self.way.verify)
        colour = colour_of(answer, self.way.colour_header)
        if colour:
            return Live(colour, f"{self.way.url}{self.way.path} answered {answer.status} from {colour}")
        holder = self._holder()
        if holder.ok and (name := holder.out.strip()) in COLOURS:
            return Live(name, f"{name} has port {self.live_port}, and did not say its colour")
        silence = answer.error or f"it answers {answer.status}"
        return Live(None, f"nobody says which colour has port {self.live_port}: {silence}")

    def agreed(self) -> Verdict:
        """Whether the answer on the port and the container that holds it are the same colour."""
        return judge(self._holder(), self.live())

    def switch(self, to: str) -> Change:
        """Stop the old colour, then start *to* on its port; the gap is as long as the start takes."""
        old = other(to)
        there = ("sh", "-c", TAKE, "sh", str(self._file(to, RELEASE)), str(self._file(old, RELEASE)))
        take = ("sh", str(self.state / "putback.sh"), self.projects[old], self.service, "")
        return Change(
            "switch",
            f"{old} → {to} on port {self.live_port}: nobody answers while {to} starts",
            (*there, *take, *self._up(to)),
            (self._free(old, to), self._ensure(old), self._again(to)),
            STOP_S + self.wait_s,
        )

    def control(self) -> Control:
        """Whether the engine says that a container holds the live port."""
        return Control(lambda: bool(self._holder().out.strip()), f"docker ps, port {self.live_port}")

    def _file(self, colour: str, name: str) -> Path:
        return self.state / "releases" / colour / name

    def _up(self, colour: str, name: str = RELEASE) -> tuple[str, ...]:
        return Compose(self.projects[colour], self._file(colour, name)).up(self.service, wait_s=self.wait_s)

    def _free(self, old: str, to: str) -> str:
        script = str(self.state / "putback.sh")
        words = (str(self.live_port), self.projects[old], script, self.projects[to], self.service)
        return line("sh", "-c", FREE, "sh", *words, within_s=STOP_S)

    def _ensure(self, old: str) -> str:
        words = ("sh", str(self.state / "ensure.sh"), self.projects[old], self.service, *self._up(old))
        return line(*words, within_s=self.wait_s + STOP_S)

    def _again(self, to: str) -> str:
        """Start *to* on its own port once more, where it was warm before and this release did not deploy it."""
        words = ("sh", str(self.state / "ensure.sh"), self.projects[to], self.service, *self._up(to, OWN))
        return line("sh", "-c", AGAIN, "sh", str(self._file(to, OWN)), *words, within_s=self.wait_s + STOP_S)

    def _holder(self) -> process.Done:
        """The colour whose container holds the live port, as the engine says."""
        shown = ("--filter", f"publish={self.live_port}", "--format", f'{{{{.Label "{LABEL}"}}}}')
        done = process.run(("docker", "ps", *shown), deadline_s=ASK_S)
        names = {project: colour for colour, project in self.projects.items()}
        out = "\n".join(names.get(each, each) for each in done.out.split())
        return process.Done(done.words, done.code, out, done.err)


def make(settings: Settings, _ports: dict[str, int]) -> PortSwap:
    """The driver that `[proxy]` describes."""
    proxy = settings.proxy
    if proxy is None or not urlsplit(proxy.url).port:
        raise UsageProblem(
            f"{settings.source}: proxy.url is missing: http://127.0.0.1:PORT, the port that users know"
        )
    port = proxy.live_port or urlsplit(proxy.url).port or 0
    projects: dict[str, str] = {colour: settings.compose_project(colour) for colour in settings.colours}
    wait = settings.gate.up_budget or WAIT_S
    return PortSwap(port, settings.state, projects, settings.service, Way.of(settings), wait)


def lay(state: Path, releases: Mapping[str, Path], service: str, port: int) -> None:
    """Write for each colour the release that it has on the live port, beside its own file of *releases*.

    Both are needed before a switch: one to go there, one to come back.
    """
    for colour, release in releases.items():
        text = published_on(release.read_text(encoding="utf-8"), service, port)
        write_atomically(state / "releases" / colour / RELEASE, text)


def published_on(release: str, service: str, port: int) -> str:
    """The release file *release* with *service* published on *port* instead of its own."""
    model = json.loads(release)
    for row in model["services"][service].get("ports") or ():
        if row.get("published"):
            row["published"] = str(port)
            break
    return json.dumps(model)

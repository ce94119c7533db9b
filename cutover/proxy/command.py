"""Command driver: a team's own commands switch the traffic, switch it back and print the live color."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cutover.core.change import Argv, Change, line
from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.core.target import ControlProbe
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.proxy.ask import ProxyClient
from cutover.proxy.base import COLORS, Live, RunningProxy, other
from cutover.system import process
from cutover.system.process import CompletedCommand

COMMAND_BUDGET_S = 60.0
STATUS_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class CommandProxy(RunningProxy):
    """HAProxy's runtime socket, a cloud's load balancer, or whatever else has a command line."""

    there: Argv
    back: Argv
    status: Argv
    ports: dict[str, int]
    client: ProxyClient
    name: str = "command"

    @classmethod
    def of(cls, settings: Settings, ports: dict[str, int]) -> Self:
        """The driver that `[proxy]` describes; raises ConfigError if a key or a command is missing."""
        proxy = settings.proxy
        if proxy is None or not proxy.switch or not proxy.url:
            raise ConfigError(f'{settings.source}: the driver "command" needs proxy.switch and proxy.url')
        there, back, status = (find_command(settings, key) for key in ("switch", "undo", "status"))
        return cls(there, back, status, ports, ProxyClient.of(settings))

    def live(self) -> Live:
        """The live color by the response through the proxy; only if that names none, by the status command."""
        answered = self.client.live()
        if answered.color:
            return answered
        done = self._run_status()
        word = printed_color(done) if done else ""
        return Live(word, f"{_only_by(self.status[0], word)}: {answered.how}") if word else answered

    def agreed(self) -> Verdict:
        """Yes if the status command, else the control location, names the color that answers."""
        done = self._run_status()
        if done is None and (own := self.client.proxy_color()):
            done = CompletedCommand((self.client.control,), 0, own, "")
        return judge_status(done, self.client.live())

    def switch(self, to: str) -> Change:
        """The team's command for *to*, and for the way back; both must do nothing when run twice."""
        undo = line(*self._filled(self.back or self.there, other(to)), within_s=COMMAND_BUDGET_S)
        text = f"{other(to)} → {to} by {self.there[0]}"
        return Change("switch", text, self._filled(self.there, to), (undo,), COMMAND_BUDGET_S)

    def control(self) -> ControlProbe:
        """Whether the proxy itself answers."""
        return self.client.as_control()

    def _run_status(self) -> CompletedCommand | None:
        return process.run(self.status, deadline_s=STATUS_DEADLINE_S) if self.status else None

    def _filled(self, argv: Argv, color: str) -> Argv:
        """*argv* with `{color}` and `{port}` replaced; other braces belong to the command."""
        port = str(self.ports.get(color, 0))
        return tuple(word.replace("{color}", color).replace("{port}", port) for word in argv)


def find_command(settings: Settings, key: str) -> Argv:
    """The argv of `[proxy]` *key* with the absolute path of its command: an undo script runs in another folder."""
    argv: Argv = getattr(settings.proxy, key)
    if not argv:
        return argv
    name = argv[0]
    path = str(settings.source.parent.absolute() / Path(name).expanduser()) if "/" in name else name
    found = shutil.which(path, path=process.FIXED_PATH)
    if found is None:
        where = path if "/" in name else f"{name} in {process.FIXED_PATH}"
        raise ConfigError(f"{settings.source}: proxy.{key}: no such command: {where}")
    return (found, *argv[1:])


def printed_color(done: CompletedCommand) -> str:
    """The last word of the output if it is a color, else empty."""
    words = done.out.split()
    return words[-1] if done.ok and words and words[-1] in COLORS else ""


def _only_by(source: str, color: str) -> str:
    return f"{source} says {color}, which does not say so"


def judge_status(done: CompletedCommand | None, live: Live) -> Verdict:
    """Yes if the status command *done* prints the color that answers, or if none answers and it prints one."""
    evidence = {"asked": live.how}
    word = printed_color(done) if done else ""
    if live.color is None and done is not None and word:
        return yes("proxy", f"{_only_by(done.argv[0], word)}: {live.how}", **evidence)
    if live.color is None:
        return unknown("proxy", live.how, **evidence)
    if done is None:
        reason = f"{live.color} answers, and nothing else says so: give proxy.status, words that print the live color"
        return unknown("proxy", reason, **evidence)
    if not word:
        why = done.last_line if not done.ok else f"it says {done.out.strip()[-80:]!r}"
        return unknown("proxy", f"{done.argv[0]} does not name a color: {why}", **evidence)
    if word != live.color:
        reason = f"{done.argv[0]} says {word}, but {live.color} answers"
        return no("proxy", reason, expected=word, seen=live.color, **evidence)
    return yes("proxy", f"{done.argv[0]} and the answer say {word}", seen=word, **evidence)

"""Command driver: a team's own commands switch the traffic, switch it back and print the live color."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cutover.core.change import Argv, Change, line
from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.proxy.base import COLORS, Driver, Live, ProxyClient, other
from cutover.system import process
from cutover.system.process import CompletedCommand

COMMAND_BUDGET_S = 60.0
STATUS_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class CommandProxy(Driver):
    """HAProxy's runtime socket, a cloud's load balancer, or whatever else has a command line."""

    there: Argv
    back: Argv
    status: Argv
    ports: dict[str, int]
    client: ProxyClient
    name = "command"
    color_line = (
        "the proxy has to add it, in HAProxy in each backend: http-after-response set-header {header} <color> "
        "(as deploy/proxy/haproxy/haproxy.cfg has it)"
    )

    @classmethod
    def of(cls, settings: Settings, ports: dict[str, int]) -> Self:
        """The driver that `[proxy]` describes; raises ConfigError if a key or a command is missing."""
        proxy = settings.proxy
        if proxy is None or not proxy.switch or not proxy.url:
            raise ConfigError(f'{settings.source}: the driver "command" needs [proxy] switch and url')
        there, back, status = (find_command(settings, key) for key in ("switch", "undo", "status"))
        return cls(there, back, status, ports, ProxyClient.of(settings))

    def live(self) -> Live:
        """The live color by the response through the proxy; only if that names none, by the status command."""
        answered = self.client.live()
        if answered.color:
            return answered
        if word := printed_color(self._run_status()):
            return Live(word, f"{self.status[0]} says {word}, which does not say so: {answered.how}")
        return answered

    def agreed(self) -> Verdict:
        """Yes if the status command, else the control location, names the color that answers."""
        done = self._run_status()
        if done is None and (own := self.client.proxy_color()):
            done = CompletedCommand((self.client.control,), 0, own, "")
        return judge_status(done, self.client.live())

    def switch(self, to: str) -> Change:
        """The team's command for *to*, and for its undo; both must do nothing when run twice."""
        undo = line(*self._filled(self.back or self.there, other(to)), within_s=COMMAND_BUDGET_S)
        text = f"{other(to)} → {to} by {self.there[0]}"
        return Change("switch", text, self._filled(self.there, to), (undo,), COMMAND_BUDGET_S)

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
    path, where = argv[0], f"{argv[0]} in {process.FIXED_PATH}"
    if "/" in path:
        path = where = str(settings.source.parent.absolute() / Path(path).expanduser())
    found = shutil.which(path, path=process.FIXED_PATH)
    if found is None:
        raise ConfigError(f"{settings.source}: [proxy] {key}: no such command: {where}")
    return (found, *argv[1:])


def printed_color(done: CompletedCommand | None) -> str:
    """The last word of the output if it is a color, else empty."""
    words = done.out.split() if done and done.ok else ()
    return words[-1] if words and words[-1] in COLORS else ""


def judge_status(done: CompletedCommand | None, live: Live) -> Verdict:
    """Yes if the status command *done* prints the color that answers, or if none answers and it prints one."""
    evidence, word = {"asked": live.how}, printed_color(done)
    if live.color is None and done and word:
        return yes("proxy", f"{done.argv[0]} says {word}, which does not say so: {live.how}", **evidence)
    if live.color is None:
        return unknown("proxy", live.how, **evidence)
    if done is None:
        reason = f"{live.color} answers, and nothing else says so: [proxy] status, a command that prints it"
        return unknown("proxy", reason, **evidence)
    if not word:
        why = done.last_line if not done.ok else f"it says {done.out.strip()[-80:]!r}"
        return unknown("proxy", f"{done.argv[0]} does not name a color: {why}", **evidence)
    if word != live.color:
        reason = f"{done.argv[0]} says {word}, but {live.color} answers"
        return no("proxy", reason, expected=word, seen=live.color, **evidence)
    return yes("proxy", f"{done.argv[0]} and the answer say {word}", seen=word, **evidence)

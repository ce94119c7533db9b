"""The steps of the cutover day: each acts over ssh, asserts its end, and says it in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from examples.stand import Result, Stand
from tests.day import canaries, pages
from tests.day.around import Monitoring, eventually
from tests.day.canaries import Processes
from tests.day.parts import BAD, CONTRACT, GOOD, LATER, LATEST, OLDER, Parts
from tests.day.server import Server
from tests.day.writer import Writer, writing
from tests.engine.test_registry import TOKEN

ROWS = 10_000


class Unexpected(Exception):
    """A step did not end as it must."""


def must(holds: object, what: str) -> None:
    """Raise Unexpected unless *holds*."""
    if not holds:
        raise Unexpected(what)


@dataclass(slots=True)
class Day:
    """The service, its server, and the client that writes."""

    stand: Stand
    parts: Parts
    server: Server
    writer: Writer
    monitoring: Monitoring
    processes: Processes
    said: list[str] = field(default_factory=list)

    # --- acting and asking ---------------------------------------------------------------------------------------
    def ssh(self, code: int, *command: str) -> Result:
        """Run *command* on the server; it must end with *code*."""
        done = self.server.run(*command)
        self.said.append(done.out)
        must(done.code == code, f"exit {done.code} instead of {code}: …{done.out[-1200:]}")
        return done

    def cutover(self, tag: str, code: int, *more: str) -> Result:
        """The whole cutover of *tag* over ssh."""
        return self.ssh(code, "scripts/deploy/cutover.sh", "--image-tag", tag, *more)

    def command(self, *words: str) -> Result:
        """A `cutover` command on the server."""
        return self.ssh(0, ".venv/bin/python", "-m", "cutover", *words)

    def live(self) -> str:
        """The tag that users get, asked through the proxy."""
        return str(self.stand.ask().get("version"))

    def rows(self) -> set[str]:
        """Every acknowledged row is stored; all that are."""
        before, there = set(self.writer.acknowledged), self.parts.texts()
        must(before <= there, f"{len(before - there)} acknowledged rows are missing")
        return there

    # --- the steps -----------------------------------------------------------------------------------------------
    def first(self) -> str:
        """First release."""
        self.ssh(0, "scripts/deploy/server_deploy.sh", "--image-tag", OLDER, "--target", "live")
        must(self.live() == OLDER, f"users get {self.live()}")
        return f"pulled from the registry, migrated to {self.parts.head()}, users get {OLDER}"

    def good(self) -> str:
        """Good release over a migration."""
        before = self.parts.head()
        # While nothing served, the health rule fired, as it should.
        eventually(self.monitoring.silent, "the rules are loaded, and none fires")
        self.cutover(GOOD, 0, "--watch=10s")
        must(self.live() == GOOD, f"users get {self.live()}")
        must(self.parts.head() != before, "the schema was not upgraded")
        must("proved" in self.command("snapshot", "--list").out, "no snapshot is proved")
        return f"snapshot proved, schema {before} → {self.parts.head()}, users get {GOOD}"

    def bad_before(self) -> str:
        """Bad release before the switch."""
        live = self.live()
        self.cutover(BAD, 1, "--watch=10s")
        must(self.live() == live, f"users get {self.live()}")
        return f"taken back before the switch, users get {live} all along"

    def contract(self) -> str:
        """Migration that the old code cannot live with."""
        live, before = self.live(), self.parts.head()
        done = self.cutover(CONTRACT, 1, "--watch=10s")
        must("on the restored copy" in done.out, "it was not stopped by the rehearsal")
        must((self.live(), self.parts.head()) == (live, before), f"{self.live()}, schema {self.parts.head()}")
        return f"stopped at T-15m on the restored copy, schema stays {before}, users get {live}"

    def cut(self) -> str:
        """Connection cut in the middle."""
        live = self.live()
        client = self.server.start("scripts/deploy/cutover.sh", "--image-tag", LATEST, "--watch=10s")
        eventually(lambda: client.poll() is not None or self._open(), "a release is open")
        must(client.poll() is None, "the session ended before it could be cut")
        os.killpg(client.pid, signal.SIGKILL)
        client.wait()
        eventually(lambda: not self._open() and self._free(), "the release is closed, and its lock free")
        self.command("recover")
        said = self.command("status").out
        must(self.live() in {live, LATEST}, f"users get {self.live()}")
        must(self.live() in said, f"status does not say {self.live()}: {said}")
        return f"{'the session went on' if self.live() == LATEST else 'taken back'}, users get {self.live()}"

    def _open(self) -> bool:
        return (self.stand.state / "open").exists()

    def _free(self) -> bool:
        lock = ("flock", "--nonblock", str(self.stand.state / "alive"), "true")
        return subprocess.run(lock, check=False, capture_output=True).returncode == 0

    def bad_after(self) -> str:
        """Bad release after the switch."""
        live, failed = self.live(), self.writer.failed
        breaker = threading.Thread(target=self._break, daemon=True)
        breaker.start()
        self.cutover(LATER, 1, "--watch=60s")
        breaker.join(60)
        must(self.live() == live, f"users get {self.live()}")
        must(self.writer.failed > failed, "it never turned bad under traffic")
        return f"flipped back, users get {live}; {self.writer.failed - failed} writes were refused meanwhile"

    def _break(self) -> None:
        """Make the release LATER answer 500 once its switch is proved and the watch begins."""
        eventually(
            lambda: self.live() == LATER and self._told('"drain '),
            f"users get {LATER}, and the old colour is drained",
        )
        colour = str(self.stand.ask()["colour"])
        self.stand.docker("exec", f"{self.stand.project(colour)}-api-1", "touch", "/tmp/break")

    def _told(self, words: str) -> bool:
        """Whether the evidence of the session that runs has *words* already."""
        found = sorted((self.stand.folder / "reports").glob(f"2*-{LATER}/evidence.jsonl"))
        return bool(found) and words in found[-1].read_text()

    def restore(self) -> str:
        """Restore of the snapshot."""
        before = set(self.writer.acknowledged)
        self.command("snapshot")
        self.writer.until(len(self.writer.acknowledged) + 100, 120)
        done = self.command("restore", "--yes")
        aside = done.out.split("is kept as ", 1)[1].split(";", 1)[0]
        self.writer.until(len(self.writer.acknowledged) + 100, 120)
        acknowledged = set(self.writer.acknowledged)  # before the databases are asked: the client goes on
        restored, kept = self.parts.texts(), self.parts.texts(aside)
        must(acknowledged <= restored | kept, "acknowledged rows are in neither database")
        must(before <= restored, "rows of the snapshot are missing")
        return (
            f"{len(restored)} rows live, {len(kept)} put aside as {aside}: every acknowledged row is in them"
        )

    def all_rows(self) -> str:
        """Ten thousand rows."""
        aside = [
            name
            for name in self.parts.sql("select datname from pg_database", "postgres")
            if "_before_" in name
        ]
        with writing(self.writer, connections=4, per_second=100):
            self.writer.until(ROWS, 400)
        acknowledged = set(self.writer.acknowledged)
        there = self.parts.texts().union(*(self.parts.texts(name) for name in aside))
        missing = acknowledged - there
        must(not missing, f"{len(missing)} acknowledged rows are missing")
        return f"{len(acknowledged)} acknowledged, 0 missing, {self.writer.failed} refused"

    def reports(self) -> str:
        """Reports in Chromium."""
        found = sorted((self.stand.folder / "reports").glob("2*/report.html"))
        words, heard = pages.opened(found)
        must(not heard, f"the pages are not alone: {heard[:5]}")
        must(len(found) >= 5, f"{len(found)} reports")
        return f"{len(found)} opened, no request left a page: {', '.join(sorted(set(words.values())))}"

    def secrets(self) -> str:
        """Canary secrets."""
        planted = (self.parts.password, TOKEN)
        left = canaries.told(
            [self.stand.folder / "reports", self.stand.state, self.stand.access_log.parent], *planted
        )
        must(not left, f"in {left}")
        must(not any(each in text for each in planted for text in self.said), "in the terminal's output")
        must(not self.processes.found, f"in the process list: {sorted(self.processes.found)[:2]}")
        return f"in no report, journal, log or output, and in none of {self.processes.samples} process lists"

    @property
    def steps(self) -> tuple[Callable[[], str], ...]:
        """All of the day, in order."""
        return (
            self.first, self.good, self.bad_before, self.contract, self.cut, self.bad_after, self.restore,
            self.all_rows, self.reports, self.secrets,
        )  # fmt: skip

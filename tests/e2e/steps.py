"""Steps of the cutover day: each one acts over SSH, checks the result and returns it in one line.

The docstring of a step is its name in the output and in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.stand import Result
from tests.e2e import canaries, pages, services
from tests.e2e.canaries import Processes
from tests.e2e.facts import Facts, Unexpected, must
from tests.e2e.parts import Parts
from tests.e2e.server import Server
from tests.e2e.services import eventually
from tests.e2e.writer import Writer
from tests.helpers.shared_services import BAD, CONTRACT, CRASHING, GOOD, LATER, LATEST, NEXT, OLDER

ROWS = 10_000
STATE = "/var/lib/cutover/recall"
CUTOVER = "scripts/deploy/cutover.sh"

__all__ = ["Day", "Unexpected"]


@dataclass(slots=True)
class Day:
    """The service, its server and the client that writes rows."""

    folder: Path
    parts: Parts
    server: Server
    writer: Writer
    processes: Processes
    digests: Mapping[str, str]
    """Digest of each release in the registry."""
    planted: tuple[str, ...]
    """The canaries."""
    said: list[str] = field(default_factory=list)

    # --- commands and queries ------------------------------------------------------------------------------------
    def ssh(self, code: int, *command: str) -> Result:
        """Run *command* on the server; it must exit with *code*."""
        done = self.server.run(*command)
        self.said.append(done.out)
        must(done.code == code, f"exit {done.code} instead of {code}: …{done.out[-1200:]}")
        return done

    def cutover(self, tag: str, code: int, *more: str) -> Result:
        """Run the cutover script for *tag* over SSH."""
        return self.ssh(code, CUTOVER, "--image-tag", tag, *more)

    def command(self, *words: str) -> Result:
        """Run a `cutover` command on the server."""
        return self.ssh(0, ".venv/bin/cutover", *words)

    def ask(self, script: str) -> str:
        """Output of a shell script on the server, run by docker exec instead of SSH."""
        return self.server.web.run(script)

    def facts(self) -> Facts:
        """State of the server."""
        return Facts.of(self.server.web, self.head())

    def live(self) -> str:
        """The tag that the proxy serves."""
        return str(self.version().get("version"))

    def version(self) -> dict[str, Any]:
        """The version response through the proxy; empty if there is none."""
        said = self.ask("curl --silent http://127.0.0.1:8080/version || :")
        found: dict[str, Any] = json.loads(said) if said.startswith("{") else {}
        return found

    def head(self) -> str:
        """Revision of the schema."""
        return self.parts.head(self.server.web)

    def rows(self) -> set[str]:
        """Assert that every acknowledged row is stored; return all rows."""
        before, there = set(self.writer.acknowledged), self.parts.texts(self.server.web)
        must(before <= there, f"{len(before - there)} acknowledged rows are missing")
        return there

    # --- the steps -----------------------------------------------------------------------------------------------
    def first(self) -> str:
        """First release."""
        self.ssh(0, "scripts/deploy/server_deploy.sh", "--image-tag", OLDER, "--target", "live")
        must(self.live() == OLDER, f"users get {self.live()}")
        return f"pulled from the registry, migrated to {self.head()}, users get {OLDER}"

    def good(self) -> str:
        """Good release over a migration."""
        before = self.head()
        # While nothing served, the health rule fired, as it should.
        eventually(lambda: services.silent(self.server.web), "the rules are loaded, and none fires")
        self.cutover(GOOD, 0, "--watch=10s")
        must(self.live() == GOOD, f"users get {self.live()}")
        must(self.head() != before, "the schema was not upgraded")
        must(" verified" in self.command("snapshot", "list").out, "no snapshot is verified")
        kept = self.ask("cat reports/latest/evidence.jsonl")
        must(f'"digest": "{self.digests[GOOD]}"' in kept, f"the evidence does not name {self.digests[GOOD]}")
        return f"snapshot verified, schema {before} → {self.head()}, users get {GOOD}, its digest is in the evidence"

    def bad_before(self) -> str:
        """Bad release before the switch."""
        return self._reverted(BAD)

    def crashing(self) -> str:
        """Release that prints its environment and ends."""
        said = self._reverted(CRASHING)
        for kept in ("*.log", "report.html"):
            said_there = self.ask(f"cat reports/latest/{kept}")
            must("DATABASE_URL=***" in said_there, f"{kept} does not hold what the release printed")
        return f"{said}; its last words are in the report, the password is not"

    def _reverted(self, tag: str) -> str:
        before = self.facts()
        self.cutover(tag, 1, "--watch=10s")
        after = self.facts()
        after.same_for_users(before)
        after.same_when_idle(before)
        return (
            f"reverted before the switch: the live container is the same, {before.idle_tag} idles as before"
        )

    def contract(self) -> str:
        """Migration that the old code cannot live with."""
        before = self.facts()
        done = self.cutover(CONTRACT, 1, "--watch=10s")
        must("on the restored copy" in done.out, "it was not stopped by the rehearsal")
        self.facts().same(before)
        return f"stopped at T-15m on the restored copy: schema {before.head}, containers, status, releases unchanged"

    def cut(self) -> str:
        """Connection cut in the middle."""
        before = self.facts()
        self._begun(LATEST, lambda client: os.killpg(client, signal.SIGKILL))
        self.command("recover")
        after = self.facts()
        must(after.live_tag == LATEST == self.live(), f"the session did not go on: users get {self.live()}")
        must(after.idle == before.live, f"the old color is not warm: {after.idle}")
        rows = [json.loads(line) for line in self.ask(f"cat {STATE}/journal.jsonl").splitlines()]
        released = [row["tag"] for row in rows if row["event"] == "released"]
        must(released[-1:] == [LATEST], f"the journal says that {released} were released")
        return f"the session went on to its end, users get {LATEST}, {before.live_tag} is warm"

    def killed(self) -> str:
        """Session killed in the middle."""
        before = self.facts()

        def kill(_: int) -> None:
            pid = json.loads(self.ask(f"cat {STATE}/owner.json"))["pid"]
            self.ask(f"kill -KILL {pid}")

        self._begun(NEXT, kill, once=lambda: self._idle_tag(before) == NEXT)
        after = self.facts()
        after.same_for_users(before)
        after.same_when_idle(before)
        must("reverted: " in self.ask(f"tail -n 1 {STATE}/guard.log"), "the guard does not say it")
        return f"its guard reverted it: the live container is the same, {before.idle_tag} idles as before"

    def _idle_tag(self, before: Facts) -> str:
        words = f"docker ps --filter label=com.docker.compose.project=recall_{before.idle_color} --format '{{{{.Image}}}}'"
        return self.ask(words).strip().rpartition(":")[2]

    def _begun(self, tag: str, fault: Callable[[int], None], once: Callable[[], bool] | None = None) -> None:
        """Start the cutover of *tag*, inject *fault* once it is open, and wait until it is closed."""
        client = self.server.start(CUTOVER, "--image-tag", tag, "--watch=10s")
        eventually(lambda: client.poll() is not None or (once or self._open)(), "a release is open")
        must(client.poll() is None, "the session ended before its time")
        fault(client.pid)
        client.wait()
        eventually(lambda: not self._open() and self._free(), "the release is closed, and its lock free")

    def _open(self) -> bool:
        return self.ask(f"test -s {STATE}/open && echo yes || :") != ""

    def _free(self) -> bool:
        return self.ask(f"flock --nonblock {STATE}/session.lock true && echo yes || :") != ""

    def bad_after(self) -> str:
        """Bad release after the switch."""
        before, failed = self.facts(), self.writer.failed
        breaker = threading.Thread(target=self._break, daemon=True)
        breaker.start()
        self.cutover(LATER, 1, "--watch=60s")
        breaker.join(60)
        after = self.facts()
        after.same_for_users(before)
        after.same_when_idle(before)
        must(self.writer.failed > failed, "it never turned bad under traffic")
        return (
            f"flipped back to the same container, {before.idle_tag} idles as before; "
            f"{self.writer.failed - failed} writes were refused meanwhile"
        )

    def _break(self) -> None:
        """Make the release LATER answer 500 once its switch is verified and the watch begins."""
        eventually(
            lambda: self.live() == LATER and self._drained(), f"users get {LATER}, the old color is drained"
        )
        self.ask(f"docker exec recall_{self.version()['color']}-api-1 touch /tmp/break")

    def _drained(self) -> bool:
        return self.ask(f"cat reports/2*-{LATER}/evidence.jsonl | grep -c '\"drain ' || :").strip() != "0"

    def restore(self) -> str:
        """Restore of the snapshot, with ten thousand rows acknowledged before it."""
        self.writer.until(ROWS, 600)
        before = set(self.writer.acknowledged)
        self.command("snapshot", "create")
        self.writer.until(len(self.writer.acknowledged) + 100, 120)
        done = self.command("snapshot", "restore", "--yes")
        aside = done.out.split("is kept as ", 1)[1].split(";", 1)[0]
        self.writer.until(len(self.writer.acknowledged) + 100, 120)
        acknowledged = set(self.writer.acknowledged)  # before the queries: the client keeps writing
        restored, kept = self.parts.texts(self.server.web), self.parts.texts(self.server.web, aside)
        missing = acknowledged - restored - kept
        must(not missing, f"{len(missing)} acknowledged rows are in neither database")
        must(before <= restored, "rows of the snapshot are missing")
        return (
            f"{len(before)} rows acknowledged before, {len(acknowledged)} after it: {len(restored)} are live, "
            f"{len(kept)} put aside as {aside}, 0 missing"
        )

    def reports(self) -> str:
        """Reports in Chromium."""
        self.server.fetch(self.folder / "left")
        found = sorted((self.folder / "left/srv/recall/reports").glob("2*/report.html"))
        words, heard = pages.opened(found)
        must(not heard, f"the pages are not alone: {heard[:5]}")
        must(len(found) >= 7, f"{len(found)} reports")
        return f"{len(found)} opened, no request left a page: {', '.join(sorted(set(words.values())))}"

    def secrets(self) -> str:
        """Canary secrets."""
        left = canaries.told(self.folder / "left", *self.planted)
        must(not left, f"in {left}")
        must(not any(each in text for each in self.planted for text in self.said), "in the terminal's output")
        must(not self.processes.found, f"in the process list: {sorted(self.processes.found)[:2]}")
        files = sum(path.is_file() for path in (self.folder / "left").rglob("*"))
        return (
            f"{len(self.planted)} planted: in none of {files} files that the day left on the server but env files "
            f"and rendered releases, in no output, in none of {self.processes.samples} process lists"
        )

    @property
    def steps(self) -> tuple[Callable[[], str], ...]:
        """All steps, in order."""
        return (
            self.first, self.good, self.bad_before, self.crashing, self.contract, self.cut, self.killed, self.bad_after,
            self.restore, self.reports, self.secrets,
        )  # fmt: skip

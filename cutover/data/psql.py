"""PostgreSQL's own programs: where they are run, and one psql that is spoken to line by line."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from cutover.core.errors import Failed, UsageProblem
from cutover.core.masking import MASK
from cutover.data.files import end, pipe
from cutover.data.location import PostgresUrl
from cutover.system import process

Words = tuple[str, ...]
PSQL = (
    "psql",
    "--no-psqlrc",
    "--quiet",
    "--no-align",
    "--tuples-only",
    "--field-separator=\t",
    "--set=ON_ERROR_STOP=1",
)
END = "cutover:end"
QUESTION_S = 60.0
NO_WAY = (
    "connection to server",
    "could not translate host name",
    "No such container",
    "executable file not found",
)


@dataclass(frozen=True, slots=True)
class Tools:
    """Where pg_dump and its siblings run: in *container*, or here when it is empty."""

    database: PostgresUrl
    container: str = ""

    def words(self, *words: str, name: str | None = None) -> Words:
        """The words of one program; what it must know of the database goes by name only (`-e PGPASSWORD`)."""
        if not self.container:
            return words
        keys = [word for key in self.database.environment(name) for word in ("--env", key)]
        return ("docker", "exec", "--interactive", *keys, self.container, *words)

    def environment(self, name: str | None = None) -> dict[str, str]:
        """The values to those names, for the process environment and nothing else."""
        return self.database.environment(name)

    def look(self, name: str) -> str:
        """The line with which a person looks into the database *name*; psql asks for the password."""
        database = self.database
        address = ("--host", database.host, "--port", str(database.port), "--username", database.user)
        there = ("docker", "exec", "--interactive", "--tty", self.container) if self.container else ()
        return shlex.join((*there, "psql", *address, "--dbname", name))

    def ask(self, sql: str, *, name: str | None = None, deadline_s: float = QUESTION_S) -> list[str]:
        """The lines that *sql* answers, tab-separated; raises Failed with PostgreSQL's own words."""
        words, environment = self.words(*PSQL, name=name), self.environment(name)
        done = process.run(
            words, deadline_s=deadline_s, environment=environment, stdin=sql.encode(), mask=False
        )
        if not done.ok:
            raise refused(done.err or done.last_line)
        return [line for line in done.out.splitlines() if line]

    @contextlib.contextmanager
    def session(self, name: str | None = None) -> Iterator[Session]:
        """A psql that stays open: what it holds, a snapshot or a lock, is let go when the block ends."""
        session = self.open(name)
        try:
            yield session
        finally:
            session.close()

    def open(self, name: str | None = None) -> Session:
        """A psql that stays open until it is closed or this process is gone."""
        return Session(self.words(*PSQL, name=name), self.environment(name))


def refused(said: str) -> Failed | UsageProblem:
    """The error for what a program of PostgreSQL *said*: a way that does not lead there is the caller's to mend."""
    lines = [line.strip() for line in MASK(said).splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "error:" in line or "FATAL" in line]
    text = (errors or lines or ["it ended without a word"])[0]
    if "executable file not found" in text:
        return UsageProblem(
            f"{text}: name a container that has PostgreSQL's programs in [database] container"
        )
    if any(sign in text for sign in NO_WAY):
        return UsageProblem(f"the database cannot be reached: {text}")
    if "permission denied" in text or "server version mismatch" in said:
        return UsageProblem(f"the database refuses: {text}")
    return Failed(f"PostgreSQL: {text}")


class Session:
    """One psql, asked one thing after the other; it dies with this process, and its locks with it."""

    def __init__(self, words: Words, environment: dict[str, str]) -> None:
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the psql
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=process.clean_environment(environment),
            start_new_session=True,
        )
        self._in, self._out = pipe(self._process.stdin), pipe(self._process.stdout)
        self._rest = b""

    def ask(self, sql: str, *, deadline_s: float = QUESTION_S) -> list[str]:
        """The lines that *sql* answers; raises Failed when PostgreSQL refuses or does not answer in time."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: reading says why
            self._in.write(f"{sql}\n\\echo {END}\n".encode())
            self._in.flush()
        return self._lines_until_end(time.monotonic() + deadline_s)

    def _lines_until_end(self, deadline: float) -> list[str]:
        handle = self._out.fileno()
        mark = f"{END}\n".encode()
        while not (self._rest == mark or self._rest.endswith(b"\n" + mark)):
            if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Failed(
                    f"PostgreSQL did not answer within its deadline ({self._errors() or 'it said nothing'})"
                )
            piece = os.read(handle, 1 << 16)
            if not piece:
                self._process.wait()
                raise refused(self._errors())
            self._rest += piece
        lines, self._rest = self._rest.decode().splitlines()[:-1], b""
        return [line for line in lines if line]

    def _errors(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def hand_over(self) -> int:
        """The descriptor that keeps this psql alive, for a process that takes over from us by exec."""
        return self._in.fileno()

    def close(self) -> None:
        """End the psql; never raises."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._in.close()
            self._process.wait(timeout=5)
        end(self._process)
        self._out.close()
        self._said.close()

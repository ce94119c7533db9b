"""Run commands on this host: with a deadline, in their own process group, with masked output."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from cutover.core.errors import ConfigError
from cutover.core.masking import MASK

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")
Argv = tuple[str, ...]
FIXED_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
PASSED_ON = ("HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "LANG")
DRAIN_S = 1.0
DEFAULT_HOST = "unix:///var/run/docker.sock"
CONTEXT_DEADLINE_S = 30.0
NO_ENGINE = {"DOCKER_HOST": ""}
"""Given to a command that asks no engine, as ssh: none is looked for then, so the one here may be any or none."""
TIMED_OUT = 124  # the same exit code as timeout(1)
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PROGRESS = re.compile(r"(Container|Network|Volume) \S+\s+[A-Z][a-z]+(\s+[\d.]+s)?")
"""What Docker Compose prints of its progress, which is the reason of no failure: `Container recall-api-1  Started`."""


@dataclass(frozen=True, slots=True)
class CompletedCommand:
    """A command that ended: argv, exit code and masked output."""

    argv: Argv
    code: int
    out: str
    err: str
    begun: bool = False
    """Of a command on another host, whether it has begun there: then ssh has found the host and signed in."""

    @property
    def ok(self) -> bool:
        """Whether the exit code is 0."""
        return self.code == 0

    @property
    def last_line(self) -> str:
        """The last line of standard error, else of standard output: it usually names the reason."""
        lines = [line.strip() for text in (self.out, self.err) for line in text.splitlines()]
        said = (line for line in reversed(lines) if line and not PROGRESS.fullmatch(line))
        return next(said, f"exit {self.code} without a word")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of engine commands: an exported IMAGE_TAG would override every env file."""
    clean = {"PATH": FIXED_PATH} | {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    if not (extra and "DOCKER_HOST" in extra) and (host := docker_host()):
        clean["DOCKER_HOST"] = host
    return clean | dict(extra or {})


def engine_environment() -> dict[str, str]:
    """Return the variables with which a docker command in any shell asks the engine of this process."""
    kept = {key: os.environ[key] for key in PASSED_ON if key.startswith("DOCKER_") and key in os.environ}
    return kept | {"DOCKER_HOST": docker_host() or DEFAULT_HOST}


def docker_host() -> str:
    """Return the address of the engine for the docker CLI and the SDK; empty for the default socket.

    The order is that of the CLI: DOCKER_HOST, DOCKER_CONTEXT, the context of `docker context use`. The SDK does not
    read contexts. Raises ConfigError if the context cannot be read, or if its engine is reached by SSH.
    """
    given, context = os.environ.get("DOCKER_HOST"), _current_context()
    host = given or _host_of_context(context)
    if host.startswith("ssh://"):
        origin = "DOCKER_HOST" if given else f"docker context {context!r}"
        todo = "run cutover on that host, or choose an engine of this host (DOCKER_HOST=unix:///var/run/docker.sock)"
        why = f"the engine at {host} is on another host, where no check can look"
        raise ConfigError(f"{origin}: {why}: {todo}")
    return host


def _current_context() -> str:
    # DOCKER_CONTEXT=default is a choice too: it overrides another current context.
    if os.environ.get("DOCKER_CONTEXT"):
        return os.environ["DOCKER_CONTEXT"]
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("currentContext")
    except (OSError, ValueError):
        return ""
    return "" if name in {None, "default"} else str(name)


@cache
def _host_of_context(name: str) -> str:
    # The CLI is asked and not docker.context.ContextAPI: that finds no context where config.json is missing.
    if not name:
        return ""
    words = ("docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}", name)
    # An empty DOCKER_HOST is none for the CLI.
    done = run(words, deadline_s=CONTEXT_DEADLINE_S, environment={"DOCKER_HOST": ""})
    if not done.ok or not done.out.strip():
        raise ConfigError(f"docker context {name!r} cannot be read: {done.last_line}")
    return done.out.strip()


def run(
    words: Sequence[str],
    *,
    deadline_s: float,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | int | None = None,
    cwd: str | None = None,
    mask: bool = True,
) -> CompletedCommand:
    """Run *words* in a clean environment with *environment* added; never raises for a failed command.

    *stdin* is what the command reads, or the file descriptor that it reads from; by default it reads nothing.
    After *deadline_s* the whole process group is killed and the exit code is 124; a missing command has 127.
    `mask=False` is for output that is parsed and not shown.
    """
    try:
        process = subprocess.Popen(
            list(words),
            stdin=stdin if isinstance(stdin, int) else subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(environment),
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        return CompletedCommand(tuple(words), 127, "", f"{words[0]}: {error.strerror}")
    try:
        out, err = process.communicate(stdin if isinstance(stdin, bytes) else None, timeout=deadline_s)
        code = process.returncode
    except subprocess.TimeoutExpired:
        ended = process.poll()  # not None: it ended, and one of its children holds our pipes open
        kill_group(process)
        out, err = _rest_of_output(process)
        code = TIMED_OUT if ended is None else ended
        if ended is None:
            err += f"\n{shlex.join(list(words)[:3])} …: no end after {deadline_s:g} s".encode()
    except BaseException:  # a Ctrl-C must not leave the child behind
        kill_group(process)
        _rest_of_output(process)
        raise
    texts = [each.decode(errors="replace") for each in (out, err)]
    return CompletedCommand(tuple(words), code, *(map(MASK, texts) if mask else texts))


@contextlib.contextmanager
def handling_signals(handler: Callable[[int, object], None] | signal.Handlers) -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP by *handler* in the body; other threads than the main one get none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def in_thread(work: Callable[[], None]) -> None:
    """Run *work* in a daemon thread: unlike the threads of a pool, it does not delay the end of the process."""
    threading.Thread(target=work, daemon=True, name="cutover-watch").start()


def of_each(do: Callable[[_Item], _Found], items: Collection[_Item]) -> list[_Found]:
    """Return what *do* finds of each of *items*, at the same time."""
    if len(items) < 2:  # noqa: PLR2004 - one alone needs no thread
        return [do(each) for each in items]
    with ThreadPoolExecutor(len(items)) as pool:
        return [*pool.map(do, items)]


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill *process*, which leads its own session, and all processes of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _rest_of_output(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    try:
        return process.communicate(timeout=DRAIN_S)
    except subprocess.TimeoutExpired as late:  # a child that left the group may hold the pipes for ever
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        return late.output or b"", late.stderr or b""

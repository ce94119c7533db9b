"""Runs words on this host: with a deadline, in a process group of its own, its output masked and kept."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cutover.errors import UsageProblem
from cutover.secret import MASK

Words = tuple[str, ...]
FIXED_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
PASSED_ON = (
    "HOME",
    "DOCKER_HOST",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "LANG",
)
LAST_WORDS_S = 1.0
CONTEXT_S = 30.0
TIMED_OUT = 124  # what timeout(1) says, so that a reader of the journal sees one number for one thing


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did: its words, exit code and masked output."""

    words: Words
    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0

    @property
    def last_line(self) -> str:
        """The last line that it said, the one that usually names the reason."""
        lines = [line for line in (self.err + "\n" + self.out).splitlines() if line.strip()]
        said = [line for line in self.err.splitlines() if line.strip()] or lines
        return said[-1].strip() if said else f"exit {self.code} without a word"


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The only environment that engine commands see: an exported IMAGE_TAG would beat every env file."""
    kept = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    place = engine_place()
    return {"PATH": FIXED_PATH, **kept, **({"DOCKER_HOST": place} if place else {}), **(extra or {})}


def engine_place() -> str:
    """The one engine that the CLI and the SDK are both sent to, empty for the default socket; raises UsageProblem.

    DOCKER_HOST, else what DOCKER_CONTEXT or `docker context use` names: the SDK knows nothing of contexts.
    """
    return os.environ.get("DOCKER_HOST") or _of_context(_chosen_context())


def _chosen_context() -> str:
    """The docker context that the user has chosen, empty for none."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    named = os.environ.get("DOCKER_CONTEXT")
    if not named:
        with contextlib.suppress(OSError, ValueError):
            named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("currentContext")
    return named if named and named != "default" else ""


@cache
def _of_context(name: str) -> str:
    """Where the engine of the docker context *name* listens; asked once a process, and not at all for none."""
    if not name:
        return ""
    environment = {"PATH": FIXED_PATH, **{key: os.environ[key] for key in PASSED_ON if key in os.environ}}
    words = ("docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}", name)
    done = _run(words, deadline_s=CONTEXT_S, environment=environment)
    if not done.ok or not done.out.strip():
        raise UsageProblem(f"docker context {name!r} cannot be read: {done.last_line}")
    return done.out.strip()


def run(
    words: Sequence[str],
    *,
    deadline_s: float,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    cwd: str | None = None,
    mask: bool = True,
) -> Done:
    """Run *words* and return what they did; never raises for a failed command.

    A command that outlives *deadline_s* is killed with its whole process group and answers with 124; one that
    cannot be found answers with 127. `mask=False` is for output that is parsed, not shown.
    """
    return _run(words, deadline_s, clean_environment(environment), stdin, cwd, mask=mask)


def _run(
    words: Sequence[str],
    deadline_s: float,
    environment: Mapping[str, str],
    stdin: bytes | None = None,
    cwd: str | None = None,
    *,
    mask: bool = True,
) -> Done:
    """The same in exactly this environment."""
    try:
        process = subprocess.Popen(  # words, never a shell string
            list(words),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        return Done(tuple(words), 127, "", f"{words[0]}: {error.strerror}")
    try:
        out, err = process.communicate(stdin, timeout=deadline_s)
    except subprocess.TimeoutExpired:
        code = process.poll()
        kill_group(process)
        out, err = _last_words(process)
        if code is not None:  # it ended; what it started has kept our pipes
            return _done(words, code, out, err, mask=mask)
        err += f"\n{shlex.join(list(words)[:3])} …: no end after {deadline_s:g} s".encode()
        return _done(words, TIMED_OUT, out, err, mask=mask)
    except BaseException:  # a Ctrl-C must not leave the child behind
        kill_group(process)
        _last_words(process)
        raise
    return _done(words, process.returncode, out, err, mask=mask)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End *process* and what it started; it leads a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _last_words(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What a killed command has said; a child of it that left the group may hold the pipes for ever."""
    try:
        out, err = process.communicate(timeout=LAST_WORDS_S)
    except subprocess.TimeoutExpired as late:
        out, err = late.output or b"", late.stderr or b""
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    return out, err


def _done(words: Sequence[str], code: int, out: bytes, err: bytes, *, mask: bool) -> Done:
    hide = MASK if mask else str
    return Done(tuple(words), code, hide(out.decode(errors="replace")), hide(err.decode(errors="replace")))

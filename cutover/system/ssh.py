"""Commands on other hosts over the system's `ssh`: one multiplexed connection for each host, strict host keys."""

from __future__ import annotations

import atexit
import base64
import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from cutover.core.errors import ConfigError
from cutover.core.masking import MASK
from cutover.core.target import host_fault
from cutover.system import process
from cutover.system.process import Argv, CompletedCommand

UNREACHED = 255
"""Exit code of ssh if it could not reach the host, or lost it; also of a command that the host did not begin."""
CONNECT_S = 10
ALIVE_S, ALIVE_TIMES = 5, 3
PERSIST_S = 300
CLOSE_DEADLINE_S = 10.0
SOCKET_ROOM = 80  # a socket has at most 107 letters, and ssh adds 17 while it makes one
BEGINS = "cutover: what the command prints begins here"
REASONS = (
    (("REMOTE HOST IDENTIFICATION HAS CHANGED",),
     "its host key has changed: compare it on the host itself, then remove the old one with ssh-keygen -R"),
    (("Host key verification failed", "host key is known for"),
     "its host key is not known here: compare it on the host itself, then add it to ~/.ssh/known_hosts"),
    (("Could not resolve hostname",),
     "no host of that name: name it as `ssh` knows it, or add it to ~/.ssh/config"),
    (("Permission denied", "Too many authentication failures"),
     "it refuses the login: load the key into the agent, or name it in ~/.ssh/config (no password is asked for)"),
)  # fmt: skip
"""What ssh says -> what it means and the way out; the first one that is found counts."""


@dataclass(frozen=True, slots=True)
class SshHost:
    """A host by its ssh name, with the control socket of its connection; raises ConfigError for a bad name.

    Without a socket each command has a connection of its own, and no agent: so it works in an undo, which may be run
    after a reboot, when nobody is signed in.
    """

    name: str
    socket: Path | None
    config: Path | None = None
    """The configuration file of ssh; None: its own."""
    agent: bool = True
    """Whether a key of the agent may sign in."""

    def __post_init__(self) -> None:
        if fault := host_fault(self.name):
            raise ConfigError(fault)

    @property
    def _options(self) -> Argv:
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": CONNECT_S,
            "ServerAliveInterval": ALIVE_S,
            "ServerAliveCountMax": ALIVE_TIMES,
            **self._connection,
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "RequestTTY": "no",
            "StreamLocalBindUnlink": "yes",
            "LogLevel": "ERROR",
        }
        given = (word for key, value in options.items() for word in ("-o", f"{key}={value}"))
        return ("ssh", *(("-F", str(self.config)) if self.config else ()), *given)

    @property
    def _connection(self) -> dict[str, object]:
        if self.socket is None:
            return {"ControlPath": "none", "IdentityAgent": "none"}
        kept: dict[str, object] = {"ControlPath": self.socket, "ControlPersist": PERSIST_S}
        return kept if self.agent else {**kept, "IdentityAgent": "none"}

    def argv(self, script: str) -> Argv:
        """The command that runs a line of POSIX shell on the host."""
        remote = f"sh -c {shlex.quote(script)}"
        master = ("-o", "ControlMaster=auto") if self.socket else ()
        return (*self._options, *master, "--", self.name, remote)

    def forward_argv(self, local: Path, remote: str) -> Argv:
        """The command that makes the socket *remote* of the host the socket *local* of this one.

        The connection must be there. It ends a while after the last use, also if nobody is left to close it.
        """
        return (*self._options, "-O", "forward", "-L", f"{local}:{remote}", "--", self.name)

    def run(
        self, script: str, *, deadline_s: float, stdin: int | None = None, mask: bool = True
    ) -> CompletedCommand:
        """Run a line of shell there; the exit code is 255 if the host did not run it, 124 after the deadline.

        What a start file of the login shell prints before is not part of the output. *stdin* and *mask* are those of
        `process.run`.
        """
        argv, given = self.argv(f"echo {shlex.quote(BEGINS)}; {script}"), ssh_environment()
        # Masked afterwards: a secret may be a word of the marker.
        done = process.run(argv, deadline_s=deadline_s, environment=given, stdin=stdin, mask=False)
        done = own_output(done)
        return replace(done, out=MASK(done.out), err=MASK(done.err)) if mask else done

    def fetch(self, folder: str, *, most: int, deadline_s: float) -> bytes:
        """The files in *folder* of the host as a compressed tar file; raises OSError with the reason."""
        # base64, because what a command prints is text here.
        script = f"cd {shlex.quote(folder)} && tar -czf - . | head -c {most + 1} | base64"
        done = self.run(script, deadline_s=deadline_s, mask=False)
        if not done.ok or not done.out.strip():
            raise OSError(unreached(done) or done.last_line)
        content = base64.b64decode(done.out)
        if len(content) > most:
            raise OSError(f"more than {most:,} bytes")
        return content

    def close(self) -> None:
        """End the connection, if there is one."""
        argv = (*self._options, "-O", "exit", "--", self.name)
        process.run(argv, deadline_s=CLOSE_DEADLINE_S, environment=ssh_environment())


@cache
def kept_connection(name: str, config: Path | None) -> SshHost:
    """The host *name* over one connection until this process ends, without the agent, as an undo reaches it."""
    stack = contextlib.ExitStack()
    host = stack.enter_context(connections([name], config))[name]
    atexit.register(stack.close)
    return replace(host, agent=False)


def ssh_environment() -> dict[str, str]:
    """The variable by which ssh finds the agent, if there is one; and no engine."""
    socket = os.environ.get("SSH_AUTH_SOCK")
    return process.NO_ENGINE | ({"SSH_AUTH_SOCK": socket} if socket else {})


def own_output(done: CompletedCommand) -> CompletedCommand:
    """*done* with what its script has printed; as one that reached nobody if the script did not begin."""
    _, begins, own = done.out.partition(f"{BEGINS}\n")
    if begins or done.code in {UNREACHED, process.TIMED_OUT}:
        return replace(done, out=own, begun=bool(begins))
    said = f"{done.err}\nthe command did not begin: {done.last_line}"
    return replace(done, code=UNREACHED, out="", err=said)


def unreached(done: CompletedCommand) -> str:
    """Why *done* says nothing about the host, in one line; empty if the command ran there to its end."""
    if done.code not in {UNREACHED, process.TIMED_OUT}:
        return ""
    return misconfigured(done) or f"no answer: {done.last_line}"


def misconfigured(done: CompletedCommand) -> str:
    """What a person must change before the host of *done* can be reached; empty if it may just be away."""
    if done.begun:
        return ""  # a start file there may say such a thing, too
    return next((meaning for marks, meaning in REASONS if any(mark in done.err for mark in marks)), "")


def in_folder(path: str, *words: str, **environment: str) -> str:
    """The line of shell that runs *words* in the folder *path*, with its `.venv/bin` first in PATH if it has one."""
    given = " ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items())
    command = f"{f'env {given} ' if given else ''}{shlex.join(words)}"
    return f'cd {shlex.quote(path)} && PATH="$PWD/.venv/bin:$PATH" && export PATH && exec {command}'


def tied(script: str) -> str:
    """*script*, whose last command is an `exec`, ended by SIGTERM as soon as its standard input ends.

    So it ends in order when the connection, or the process that called it, does.
    """
    # By descriptor 3, because a shell gives asynchronous commands /dev/null as their standard input.
    watch = '{ cat <&3 >/dev/null; kill -TERM "$s"; } >/dev/null 2>&1 & w=$!'
    end = 'wait "$s"; c=$?; kill "$w" 2>/dev/null; exit "$c"'
    return f"exec 3<&0; {{ {script}; }} </dev/null 3<&- & s=$!; {watch}; {end}"


@contextlib.contextmanager
def connections(names: Sequence[str], config: Path | None = None) -> Iterator[dict[str, SshHost]]:
    """A host for each name; the connections are made when they are first used and closed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="cutover-"))
    if len(str(folder)) > SOCKET_ROOM:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="cutover-", dir="/tmp"))
    hosts: dict[str, SshHost] = {}
    try:
        hosts.update({name: SshHost(name, folder / str(number), config) for number, name in enumerate(names)})
        yield hosts
    finally:
        for host in hosts.values():
            if host.socket and host.socket.exists():
                host.close()
        shutil.rmtree(folder, ignore_errors=True)

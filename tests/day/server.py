"""A server to release to over ssh: sshd as a process of its own, a clone as DEPLOY_PATH, this host's engine."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.stand import REPOSITORY, RUN_S, Result, free_ports

SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowUsers {user}
# The folder is a test's own, below one that anybody may write.
StrictModes no
"""
CLIENT = """\
Host server
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 30
"""


@dataclass(frozen=True, slots=True)
class Server:
    """What the workflow's secrets say of a server, and the variables of the sessions there."""

    folder: Path
    variables: Mapping[str, str]
    token: str
    """The registry's; it comes by standard input, as in .github/workflows/session.yml."""

    @property
    def path(self) -> Path:
        """DEPLOY_PATH."""
        return self.folder / "checkout"

    def words(self, *command: str) -> tuple[str, ...]:
        """The ssh that runs *command* in DEPLOY_PATH."""
        there = f"cd {shlex.quote(str(self.path))} && IFS= read -r GHCR_TOKEN && export GHCR_TOKEN"
        named = ("env", *(f"{key}={value}" for key, value in self.variables.items()), *command)
        return ("ssh", "-F", str(self.folder / "client"), "server", f"{there} && exec {shlex.join(named)}")

    def run(self, *command: str) -> Result:
        """Run *command* there to its end."""
        done = subprocess.run(
            self.words(*command), input=f"{self.token}\n", capture_output=True, text=True, timeout=RUN_S, check=False
        )  # fmt: skip
        return Result(done.returncode, done.stdout + done.stderr)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Begin *command* there; whoever ends the client cuts the connection."""
        process = subprocess.Popen(
            self.words(*command), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(f"{self.token}\n")
        process.stdin.flush()
        return process


@contextmanager
def serving(folder: Path, variables: Mapping[str, str], token: str) -> Iterator[Server]:
    """Run sshd for one key that is thrown away, until the block ends; raises FileNotFoundError where there is none."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None:
        raise FileNotFoundError("sshd is missing: apt-get install openssh-server")
    folder.mkdir(mode=0o700)
    port, user = free_ports(1)[0], getpass.getuser()
    for name in ("host", "key"):
        _quietly("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    for name, text in {"sshd": SSHD, "client": CLIENT}.items():
        (folder / name).write_text(text.format(port=port, folder=folder, user=user))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    _quietly("git", "clone", "--quiet", str(REPOSITORY), str(folder / "checkout"))
    (folder / "checkout" / ".venv").symlink_to(sys.prefix)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(
            mode=0o755, exist_ok=True
        )  # where it changes its root to, made by its unit as a rule
    process = subprocess.Popen((sshd, "-D", "-e", "-f", str(folder / "sshd")), stderr=subprocess.DEVNULL)
    try:
        yield Server(folder, variables, token)
    finally:
        process.terminate()
        process.wait(30)


def _quietly(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=120, stdin=subprocess.DEVNULL)

"""The server of the end-to-end run, reached over SSH; tests/helpers/ssh_server.py creates it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.stand import RUN_S, Result
from tests.helpers import ssh_server

CLIENT = """\
Host server
  HostName 127.0.0.1
  Port {port}
  User deploy
  IdentityFile {folder}/key
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 30
"""
LEFT = ("srv/recall", "var/lib/cutover", "var/log", "tmp", "home/deploy")
NOT_OURS = ("srv/recall/.venv", "srv/recall/.git", "srv/recall/tests")


@dataclass(frozen=True, slots=True)
class Server:
    """A server as known to the workflow's secrets, and the variables of its sessions."""

    folder: Path
    web: ssh_server.Server
    variables: Mapping[str, str]
    token: str
    """Token of the registry, passed on standard input as in .github/workflows/session.yml."""

    @property
    def key(self) -> str:
        """The deploy key, DEPLOY_KEY."""
        return (self.folder / "key").read_text()

    def words(self, *command: str) -> tuple[str, ...]:
        """The ssh command line that runs *command* in DEPLOY_PATH."""
        there = "cd /srv/recall && IFS= read -r GHCR_TOKEN && export GHCR_TOKEN"
        named = ("env", *(f"{key}={value}" for key, value in self.variables.items()), *command)
        return ("ssh", "-F", str(self.folder / "client"), "server", f"{there} && exec {shlex.join(named)}")

    def run(self, *command: str) -> Result:
        """Run *command* on the server and wait for it."""
        done = subprocess.run(
            self.words(*command), input=f"{self.token}\n", capture_output=True, text=True, timeout=RUN_S, check=False
        )  # fmt: skip
        return Result(done.returncode, done.stdout + done.stderr)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start *command* on the server; killing the client cuts the connection."""
        process = subprocess.Popen(
            self.words(*command), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(f"{self.token}\n")
        process.stdin.flush()
        return process

    def fetch(self, folder: Path, what: Sequence[str] = LEFT) -> None:
        """Copy the files in *what* from the server to *folder*, with their modes."""
        folder.mkdir(exist_ok=True)
        without = [f"--exclude={each}" for each in NOT_OURS]
        pack = (
            "docker",
            "exec",
            self.web.name,
            "tar",
            "-C",
            "/",
            *without,
            "--warning=no-file-changed",
            "-cf",
            "-",
            *what,
        )
        with subprocess.Popen(pack, stdout=subprocess.PIPE) as packed:
            unpack = ("tar", "-C", str(folder), "--no-same-owner", "--preserve-permissions", "-xf", "-")
            subprocess.run(unpack, stdin=packed.stdout, check=True, timeout=120)


def known(folder: Path, web: ssh_server.Server, variables: Mapping[str, str], token: str) -> Server:
    """Register a temporary key on *web* and return the server for SSH access."""
    folder.mkdir(mode=0o700)
    key = folder / "key"
    argv = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    subprocess.run(argv, check=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    web.run(f"cat >> /home/deploy/.ssh/authorized_keys <<'END'\n{key.with_suffix('.pub').read_text()}END\n")
    (folder / "client").write_text(CLIENT.format(port=web.port, folder=folder))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{web.port} {web.host_key}\n")
    return Server(folder, web, variables, token)

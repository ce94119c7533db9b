"""Services around the example: a registry with authentication, and the shipped monitoring."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from examples.images import image
from examples.stand import RUN_S
from tests.helpers.registry_image import NAME, TOKEN, registry_image
from tests.helpers.shared_services import RELEASES, made
from tests.helpers.ssh_server import Server, docker
from tests.integration.test_monitoring import RULES, RUN_ALL

UNAUTHORIZED = 401
PORTS = {"prometheus": 9090, "alertmanager": 9093, "blackbox": 9115}
ALERTS = f"""
cat >> deploy/cutover.toml <<'END'
[alerts]
prometheus = "http://127.0.0.1:9090"
alertmanager = "http://127.0.0.1:9093"
rules = {list(RULES)}
receiver = "on-call"
END
sed -i 's|_interval: 15s|_interval: 1s|' deploy/monitoring/prometheus.yml
"""
ASK = """
from cutover.cli.main import settings_of
from cutover.gate.environment_checks import alerts
raise SystemExit(not alerts(settings_of(None).alerts).ok)
"""


def eventually(until: Callable[[], object], what: str, deadline_s: float = 300) -> None:
    """Poll *until* until it holds; TimeoutError after the deadline."""
    deadline = time.monotonic() + deadline_s
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {deadline_s:g} s: {what}")
        time.sleep(0.1)


@contextmanager
def registry(web: Server, port: int, empty: Path) -> Iterator[str]:
    """Debian's registry with one user in the network of *web*; its address is the same here and on *web*."""
    empty.mkdir()
    name, reference = f"{web.name}-registry", registry_image(empty)
    where = ("--network", f"container:{web.name}", "--env", f"REGISTRY_HTTP_ADDR=:{port}")
    docker("run", "--detach", "--name", name, *where, reference)
    try:
        eventually(lambda: _wants_a_login(f"http://127.0.0.1:{port}/v2/"), "the registry answers", 60)
        yield f"127.0.0.1:{port}"
    finally:
        docker("rm", "--force", "--volumes", name)


def _wants_a_login(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  # our own http://127.0.0.1
    except urllib.error.HTTPError as answer:
        return answer.code == UNAUTHORIZED
    except OSError:
        return False
    return False


def push(host: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Push all releases to the registry; return their digests as this host's engine reports them."""
    digests = {}
    for tag in RELEASES:
        reference = f"{host}/{NAME}/api:{tag}"
        docker("tag", made(tag), reference)
        try:
            with tempfile.TemporaryDirectory() as config:  # store no login
                own = {**environment, "DOCKER_CONFIG": config}
                login = ("docker", "login", "--username", NAME, "--password-stdin", host)
                for argv, stdin in ((login, TOKEN), (("docker", "push", "--quiet", reference), "")):
                    subprocess.run(
                        argv, env=own, input=stdin, capture_output=True, text=True, timeout=RUN_S, check=True
                    )
            names = docker("image", "inspect", "--format", '{{join .RepoDigests " "}}', reference)
            digests[tag] = next(each for each in names.split() if each.startswith(host))
        finally:
            docker("image", "rm", reference)
    return digests


def watch(web: Server) -> None:
    """Start Prometheus, Alertmanager and blackbox exporter on the server, with its copy of deploy/monitoring."""
    web.load([image("prometheus")])
    mount = "--volume /srv/recall/deploy/monitoring:/etc/monitoring:ro --workdir /etc/monitoring"
    run = f"docker run --detach --name monitoring --network host --init --memory 512m {mount} {image('prometheus')}"
    web.run(f"{run} sh -c {shlex.quote(RUN_ALL.format(**PORTS))}")


def silent(web: Server) -> bool:
    """Whether all rules are loaded and none fires."""
    return "yes" in web.run(f".venv/bin/python -c {shlex.quote(ASK)} && echo yes || :")

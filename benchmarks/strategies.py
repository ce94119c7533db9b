"""Release strategies for the comparison: bare Compose, a deploy script, and each proxy driver."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.bench_overhead import Bare
from benchmarks.common import begin, require, stand
from examples.stand import Result, Stand
from tests.helpers import proxy_files
from tests.helpers.color_servers import listens, process, tool

# An endpoint that returns 500 for every second request of the bad release, whose readiness stays good.
USED = """
[[endpoints]]
path = "/slow?seconds=0"
"""
LONGEST_S = 300.0


class Way(Protocol):
    """A release strategy: its stand, and the URL where users connect."""

    on: Stand
    url: str

    def first(self, tag: str) -> None:
        """Deploy *tag* as the first live release."""

    def release(self, tag: str) -> Result:
        """Release *tag*."""

    def roll_back(self, tag: str) -> Result:
        """Roll back to *tag*, which was live before."""


@dataclass(slots=True)
class Health:
    """Health events of the engine during a block, recorded because the engine keeps only recent events."""

    on: Stand
    said: str = ""

    def first(self, tag: str) -> float | None:
        """Unix time when a container of *tag* first became healthy, or None."""
        rows = [row.split() for row in self.said.splitlines()]
        mine = [row for row in rows if row[1].startswith(f"{self.on.name}_") and row[2].endswith(f":{tag}")]
        return min((int(row[0]) / 1e9 for row in mine), default=None)


@contextmanager
def listening(on: Stand) -> Iterator[Health]:
    """Record which containers become healthy; complete after the block."""
    form = (
        '{{.TimeNano}} {{index .Actor.Attributes "com.docker.compose.project"}} {{.Actor.Attributes.image}}'
    )
    argv = ("docker", "events", "--filter", "event=health_status: healthy", "--format", form)
    heard = Health(on)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as events:
        try:
            yield heard
        finally:
            events.terminate()
            heard.said = events.communicate()[0]


@dataclass(slots=True)
class Compose:
    """`docker compose up -d`; users connect to the published port."""

    on: Stand
    bare: Bare
    url: str

    def first(self, tag: str) -> None:
        """Start *tag* and wait until it is healthy."""
        self.on.docker("network", "create", f"{self.on.name}_shared", check=False)
        require(self.bare.up(tag), 0)

    def release(self, tag: str) -> Result:
        """Run `up` without waiting."""
        return self.bare.up(tag, wait=False)

    def roll_back(self, tag: str) -> Result:
        """Run `up` with the old tag."""
        return self.bare.up(tag, wait=False)


SCRIPT = """\
set -eu
docker compose --file {file} --env-file {env} --project-name {project} up --detach
curl --silent --show-error --fail --output {nowhere} --retry 30 --retry-delay 1 --retry-all-errors {ready}
echo "upstream api {{ server 127.0.0.1:{port}; keepalive 64; keepalive_timeout 1s; }}" > {upstream}
{reload}
"""
NGINX = """\
{user}worker_processes auto; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_timeout 75s; keepalive_requests 100000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/upstream.conf;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
    }}
}}
"""


@dataclass(slots=True)
class Script:
    """A typical deploy script: start the other color, wait for /readyz, rewrite nginx's upstream, reload nginx."""

    on: Stand
    folder: Path
    live: str = "green"
    url: str = ""

    def main(self) -> Path:
        """Write nginx's files and return the path of the main one; the upstream is a closed port at first."""
        self.url = self.on.url
        user = "user root; " if os.geteuid() == 0 else ""
        (self.folder / "upstream.conf").write_text("upstream api { server 127.0.0.1:9; }\n")
        text = NGINX.format(folder=self.folder, port=self.on.ports["proxy"], user=user)
        (self.folder / "nginx.conf").write_text(text)
        return self.folder / "nginx.conf"

    def first(self, tag: str) -> None:
        """Release *tag* as any other."""
        self.on.docker("network", "create", f"{self.on.name}_shared", check=False)
        require(self.release(tag), 0)

    def release(self, tag: str) -> Result:
        """Release *tag* to the idle color."""
        idle = "green" if self.live == "blue" else "blue"
        text = self.on.env_file(idle).read_text()
        tags = [row for row in text.splitlines() if not row.startswith("IMAGE_TAG=")]
        self.on.env_file(idle).write_text("\n".join([*tags, f"IMAGE_TAG={tag}", ""]))
        done = self._run(self._text(idle))
        if done.code == 0:
            self.live = idle
        return done

    def roll_back(self, tag: str) -> Result:
        """Run the last two lines of the script for the other color, which still runs."""
        del tag
        self.live = "green" if self.live == "blue" else "blue"
        return self._run("\n".join(["set -eu", *self._text(self.live).splitlines()[-2:]]))

    def _text(self, color: str) -> str:
        port = self.on.ports[color]
        return SCRIPT.format(
            file=shlex.quote(str(self.on.folder / "deploy" / "docker-compose.yml")),
            env=shlex.quote(str(self.on.env_file(color))), project=self.on.project(color), nowhere=os.devnull,
            ready=f"http://127.0.0.1:{port}/readyz", port=port, upstream=self.folder / "upstream.conf",
            reload=f"{tool('nginx', 'nginx-light')} -c {self.folder / 'nginx.conf'} -s reload",
        )  # fmt: skip

    def _run(self, text: str) -> Result:
        done = subprocess.run(
            ("sh", "-c", text), env=self.on.shell(), capture_output=True, text=True, check=False, timeout=LONGEST_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Result(done.returncode, done.stdout + done.stderr)


@dataclass(slots=True)
class Ours:
    """One session: deploy to the idle color, gate, switch, verify, watch for three seconds."""

    on: Stand
    url: str = ""

    def first(self, tag: str) -> None:
        """Live and verified."""
        begin(self.on, tag)

    def release(self, tag: str) -> Result:
        """Run all steps of a release."""
        return self.on.pytest("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", "--watch=3s")

    def roll_back(self, tag: str) -> Result:
        """Run `cutover rollback`."""
        del tag
        return self.on.cutover("rollback")


@contextmanager
def compose() -> Iterator[Way]:
    """Bare Compose in a separate project."""
    with stand("compose", proxied=False) as on:
        bare = Bare(on)
        try:
            yield Compose(on, bare, f"http://127.0.0.1:{bare.port}")
        finally:
            bare.down()


@contextmanager
def script() -> Iterator[Way]:
    """The deploy script and the distribution's nginx."""
    with stand("script", proxied=False) as on:
        folder = on.folder / "nginx"
        folder.mkdir()
        way = Script(on, folder)
        words = proxy_files.nginx_words(tool("nginx", "nginx-light"), way.main())
        with process(words, folder / "out", lambda: listens(on.ports["proxy"])):
            yield way


@contextmanager
def ours(driver: Literal["nginx", "traefik", "port-swap"]) -> Iterator[Way]:
    """A session with one of the stand's drivers."""
    with stand(driver, driver=driver, extra=USED) as on:
        yield Ours(on, on.url)


COMMAND = """
[proxy]
driver = "command"
url = "{url}"
switch = ["{script}", "{{color}}"]
status = ["{script}"]
drain_timeout = "20s"
open_connections = 10
new_connections = 5
"""


@contextmanager
def command() -> Iterator[Way]:
    """A session with the command driver: the shipped script that sets HAProxy's map over its socket."""
    tool("socat", "socat")
    with stand("command", proxied=False, extra=USED) as on:
        folder = on.folder / "haproxy"
        folder.mkdir()
        main, words = proxy_files.haproxy(folder, on.ports, on.ports["proxy"])
        with on.config.open("a") as config:
            config.write(COMMAND.format(url=on.url, script=words))
        start = (tool("haproxy", "haproxy"), "-f", str(main), "-db")
        with process(start, folder / "out", lambda: listens(on.ports["proxy"])):
            yield Ours(on, on.url)


WAYS: dict[str, Callable[[], AbstractContextManager[Way]]] = {
    "compose": compose,
    "script": script,
    "nginx": partial(ours, "nginx"),
    "traefik": partial(ours, "traefik"),
    "command": command,
    "port-swap": partial(ours, "port-swap"),
}
OTHERS = ("compose", "script")
"""Strategies that do not use this project."""

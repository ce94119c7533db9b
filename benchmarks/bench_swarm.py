"""Measure releases on three engines side by side: `docker stack deploy`, ours on a Swarm, ours on three hosts.

    .venv/bin/python -m benchmarks.bench_swarm [way …] [--dry]

Each way has a good release, then one that fails all requests a few seconds after its first users. The users call all
three engines. Two minutes a way.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import write
from benchmarks.common import Rows, asked, merged, publish, say, table
from examples.images import image
from examples.releases import REPO, build
from tests.helpers.load import Ask, Shot, load
from tests.helpers.ssh_hosts import fleet
from tests.helpers.swarm_fronts import address, fronts_stand

SECTION = "swarm"
FIRST, GOOD, BAD = "sha-5b00001", "sha-5b00002", "sha-5b0bad1"
STAYS_GOOD_S = 86_400.0
RATE, CONNECTIONS = 50.0, 10
VERSION = (Ask("GET", "/version"),)
WATCH = "15s"
BREAKS_AFTER_S, AFTER_S, LAST_S = 3.0, 15.0, 3.0
PLAIN_PORT = 8090
WAYS = ("stack deploy", "Swarm", "hosts")
STACK = """\
version: "3.9"
services:
  api:
    image: {repo}:{tag}
    environment: {{IMAGE_TAG: "{tag}", COMPOSE_PROJECT_NAME: plain, DATABASE_URL: "", REDIS_URL: "", VLLM_ENDPOINT: ""}}
    volumes: [data:/data]
    init: true
    stop_grace_period: 10s
    deploy:
      replicas: 3
      endpoint_mode: dnsrr
      update_config: {{order: start-first, failure_action: rollback, monitor: 10s}}
  front:
    image: {nginx}
    command: [nginx, -c, /front.conf, -g, "daemon off;"]
    ports: [{{target: 8080, published: {port}, mode: host}}]
    configs: [{{source: front, target: /front.conf}}]
    deploy: {{mode: global, endpoint_mode: dnsrr}}
configs:
  front: {{file: ./front.conf}}
volumes:
  data: {{}}
"""
FRONT = """\
pid /tmp/nginx.pid;
events {}
http {
    client_body_temp_path /tmp/1; proxy_temp_path /tmp/2; fastcgi_temp_path /tmp/3; uwsgi_temp_path /tmp/4;
    scgi_temp_path /tmp/5; access_log off; error_log /dev/stderr;
    server {
        listen 8080;
        resolver 127.0.0.11 valid=1s;
        location / {
            set $up tasks.api;
            proxy_pass http://$up:8000;
            proxy_connect_timeout 1s;
            proxy_next_upstream error timeout;
        }
    }
}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Three engines that serve `FIRST`."""

    urls: Sequence[str]
    engines: Sequence[str]
    """The containers in which the engines run."""
    release: Callable[[str], int]
    """Releases a tag; its exit code."""


@contextlib.contextmanager
def plain_stack(folder: Path, images: Sequence[str]) -> Iterator[Site]:
    """`docker stack deploy`, with nginx on each node that asks the DNS of the Swarm."""
    with fronts_stand(folder, f"bench{uuid.uuid4().hex[:6]}", [*images, image("nginx")], 3) as stand:
        (folder / "front.conf").write_text(FRONT)

        def release(tag: str) -> int:
            file = folder / "stack.yml"
            file.write_text(STACK.format(repo=REPO, tag=tag, nginx=image("nginx"), port=PLAIN_PORT))
            words = (
                "stack",
                "deploy",
                "--resolve-image",
                "never",
                "--detach=false",
                "--compose-file",
                str(file),
                "plain",
            )
            done = subprocess.run(
                ("docker", "--host", stand.host, *words), check=False, capture_output=True, timeout=300
            )
            return done.returncode

        urls = [f"http://{address(node)}:{PLAIN_PORT}" for node in stand.nodes.values()]
        if release(FIRST):
            raise RuntimeError("the first stack did not start")
        yield Site(urls, [node.name for node in stand.nodes.values()], release)


@contextlib.contextmanager
def our_swarm(folder: Path, images: Sequence[str]) -> Iterator[Site]:
    """Ours on a Swarm of three nodes, each with nginx."""
    with fronts_stand(folder, f"bench{uuid.uuid4().hex[:6]}", images, 3) as stand:
        first = stand.pytest("smoke", "--target=blue", f"--deploy={FIRST}")
        if first.code:
            raise RuntimeError(first.last)

        def release(tag: str) -> int:
            words = ("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", f"--watch={WATCH}")
            return stand.pytest(*words).code

        urls = [stand.front(name) for name in stand.nodes]
        yield Site(urls, [node.name for node in stand.nodes.values()], release)


@contextlib.contextmanager
def our_hosts(folder: Path, images: Sequence[str]) -> Iterator[Site]:
    """Ours on three hosts that know nothing of each other."""
    with fleet(folder, images) as web:

        def release(tag: str) -> int:
            return web.release(tag, f"--watch={WATCH}")[0]

        yield Site(
            [web.url(name) for name in web.servers], [each.name for each in web.servers.values()], release
        )


SITES = dict(zip(WAYS, (plain_stack, our_swarm, our_hosts), strict=True))


@contextlib.contextmanager
def breaking(engines: Sequence[str], shots: Callable[[], list[Shot]]) -> Iterator[None]:
    """Break each copy of `BAD` a few seconds after it has its first users."""
    ended = threading.Event()

    def act() -> None:
        while not ended.wait(0.5):
            first = min((each.ended for each in shots() if each.release == BAD), default=None)
            if first is None or time.monotonic() < first + BREAKS_AFTER_S:
                continue
            for engine in engines:
                find = 'for each in $(docker ps --quiet --filter "ancestor=$0"); do docker exec $each touch /tmp/break; done'
                words = ("docker", "exec", engine, "sh", "-c", find, f"{REPO}:{BAD}")
                subprocess.run(words, check=False, capture_output=True, timeout=60)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measure(site: Site, tag: str, before: str) -> dict[str, Any]:
    """What users got from one release of *tag* in place of *before*."""
    with contextlib.ExitStack() as stack:
        users = [
            stack.enter_context(load(url, connections=CONNECTIONS, rate=RATE, asks=VERSION, longest_s=900))
            for url in site.urls
        ]
        if tag == BAD:
            stack.enter_context(
                breaking(site.engines, lambda: [shot for each in users for shot in [*each.shots]])
            )
        time.sleep(LAST_S)
        begun = time.monotonic()
        code = site.release(tag)
        took = time.monotonic() - begun
        time.sleep(AFTER_S)  # the time in which users may still notice something
    return judged([shot for each in users for shot in each.shots], tag, before, begun, code) | {"took": took}


def judged(shots: Sequence[Shot], tag: str, before: str, begun: float, code: int) -> dict[str, Any]:
    """The row of one release, by the answers of its users.

    `all_traffic`: from the call to the last answer of another release; `back`: from the first failed request to the
    last one. Both are None if that was not reached.
    """
    end = max(each.ended for each in shots)
    failed = sorted(each.ended for each in shots if each.failed and each.ended >= begun)
    last = [each for each in shots if each.ended > end - LAST_S]
    serves = {each.release for each in last} if not any(each.failed for each in last) else set()
    others = [each.ended for each in shots if each.release != tag and each.ended >= begun]
    return {
        "requests": len(shots),
        "failed": len(failed),
        "all_traffic": max(others, default=begun) - begun if serves == {tag} else None,
        "back": failed[-1] - failed[0] if failed and serves == {before} else None,
        "code": code,
        "truth": (code == 0) == (serves == {tag}),
    }


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    cells = [
        (
            way,
            kind,
            f"{row['failed']:,} of {row['requests']:,}",
            seconds(row["all_traffic"]) if kind == "good" else "",
            seconds(row["back"]) if row["failed"] else "",
            row["code"],
            "yes" if row["truth"] else "NO",
        )
        for way in WAYS
        for kind in ("good", "bad")
        if (row := rows.get(f"{way}, {kind}"))
    ]
    return [
        "## Swarm",
        "",
        "`python -m benchmarks.bench_swarm`: three engines in containers of one machine and users of all three. `stack",
        "deploy` is `docker stack deploy` with `order: start-first, failure_action: rollback, monitor: 10s`; the bad release",
        "passes its HEALTHCHECK and answers 500 some seconds after its first users. Ours watches for 15 s a batch. Time back",
        "is from the first failed request to the last one, when users have the release before again.",
        "",
        *table(("way", "release", "failed", "to all traffic", "time back", "exit code", "told the truth"), cells),
    ]  # fmt: skip


def seconds(value: float | None) -> str:
    """`12 s`, or how long it was waited for."""
    return f"not within {AFTER_S:g} s" if value is None else f"{value:.1f} s"


def main() -> int:
    """Measure the ways that the command line names, or all."""
    wanted = asked(__doc__, WAYS)
    images = [build(FIRST), build(GOOD), build(BAD, "breaks-later", seconds=STAYS_GOOD_S)]
    rows: Rows = {}
    for way in wanted.names:
        with tempfile.TemporaryDirectory(prefix="swarm-") as folder, SITES[way](Path(folder), images) as site:
            for kind, tag, before in (("good", GOOD, FIRST), ("bad", BAD, GOOD)):
                rows[f"{way}, {kind}"] = {"where": write.machine(), **measure(site, tag, before)}
                say(f"{way}, {kind}: {rows[f'{way}, {kind}']}")
    every = merged(SECTION, rows)
    publish(SECTION, told(every), every, dry=wanted.dry)
    return 1 if any(row["failed"] for name, row in rows.items() if name.endswith("good")) else 0


if __name__ == "__main__":
    sys.exit(main())

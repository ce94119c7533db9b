"""The rules for a compose file, each with a file that breaks it and one that keeps it, rendered by Compose."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cutover.env.compose_rules import (
    REFUSING,
    RULES,
    ComposeUse,
    compose_findings,
    split_image,
    split_outside,
    variable_of,
)
from cutover.system import process

BLUE = {"TAG": "1", "IMAGE_TAG": "1", "PORT": "8000"}
GOOD = """
services:
  web:
    image: app:${IMAGE_TAG:?}
    ports: ["127.0.0.1:${PORT:?}:80"]
    user: "1000"
    healthcheck: {test: ["CMD", "curl", "--fail", "http://127.0.0.1/ready"]}
"""


def rendered(text: str, project: str, *flags: str, **variables: str) -> dict[str, Any]:
    """*text* as Compose renders it for *project*."""
    argv = (
        "docker",
        "compose",
        "--project-name",
        project,
        "--project-directory",
        "/srv/shop",
        "--file",
        "-",
        "config",
        "--format",
        "json",
        *flags,
    )
    done = process.run(
        argv, deadline_s=60, environment={**BLUE, **variables}, stdin=text.encode(), mask=False
    )
    assert done.ok, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def web(lines: str, rest: str = "") -> str:
    """A compose file with a service `web` that has *lines* beside an image and a health check."""
    own = "" if "image:" in lines else "    image: app:${IMAGE_TAG:?}\n"
    own += "" if "healthcheck:" in lines else '    healthcheck: {test: ["CMD", "ask", "http://127.0.0.1"]}\n'
    own += "" if "user:" in lines else '    user: "1000"\n'
    return "services:\n  web:\n" + own + "".join(f"    {line}\n" for line in lines.splitlines()) + rest


DB = "  db: {image: postgres:15}\n"
JOB = "  job: {image: 'app:1', depends_on: {db: {condition: service_healthy}}}\n"
TWO = {"two_colors": True}
RAW = {"raw": True}
IMAGE = {"Architecture": "amd64", "Config": {"User": "1000", "Healthcheck": {"Test": ["CMD", "ask"]}}}
ROOT = {"web": {"Architecture": "amd64", "Config": {"User": ""}}}


def use_of(text: str, facts: dict[str, Any]) -> ComposeUse:
    """The compose file *text* under the projects shop_blue and shop_green."""
    use = ComposeUse("compose.yml", "shop_blue", rendered(text, "shop_blue"), ("web",))
    if facts.pop("raw", False):
        facts["source"] = rendered(text, "shop_blue", "--no-interpolate")
    if facts.get("two_colors"):
        facts["other"] = rendered(text, "shop_green", PORT="8001")
    return replace(use, **facts)


@pytest.mark.parametrize(
    ("text", "facts", "what", "todo"),
    [
        (web("image: app:2.8.1"), RAW, "the tag of app:2.8.1 is written out", "image: app:${IMAGE_TAG:?}"),
        (web("image: reg:5000/team/app"), RAW, "the tag of reg:5000/team/app is written out", "image: reg:5000/team/app:${IMAGE_TAG:?}"),
        (web("image: app:${TAG:-latest}"), RAW, "TAG chooses the tag of app:${TAG:-latest}, not IMAGE_TAG", 'tag = "TAG" in [env_keys]'),
        (web("image: app:v${IMAGE_TAG}"), {"tag": "1"}, "IMAGE_TAG=1 makes it run app:v1", "image: app:${IMAGE_TAG:?}"),
        (web("image: app@sha256:" + "0" * 64), RAW, "sha256:000000000000 is written out", "image: app:${IMAGE_TAG:?}"),
        (web("image: app:${IMAGE_TAG}@sha256:" + "0" * 64), {"tag": "1"}, "so no release can choose the image", "image: app:${IMAGE_TAG:?}"),
        (web("image: app:2.8.1"), {"tag": "9.9.9"}, "IMAGE_TAG=9.9.9 makes it run app:2.8.1", "image: app:${IMAGE_TAG:?}"),
        (web("image: app:2.8.1"), {"tag": "9.9.9", **RAW}, "the tag of app:2.8.1 is written out", "image: app:${IMAGE_TAG:?}"),
        (web("image: app:${TAG:-latest}"), {"tag": "9.9.9", **RAW}, "TAG chooses the tag", 'tag = "TAG" in [env_keys]'),
        (web("init: true", "  job: {image: 'app:0', healthcheck: {test: [CMD, ask]}, user: '1'}\n"), {"tag": "1", "services": ("web", "job"), **RAW}, "the tag of app:0 is written out", "image: app:${IMAGE_TAG:?}"),
        ("services: {web: {build: ., user: '1', healthcheck: {test: [CMD, ask]}}}", RAW, "names no image", "image: web:${IMAGE_TAG:?}"),
        (web("container_name: shop"), TWO, "container_name shop: both colors cannot have it", "remove the line"),
        (web('ports: ["8000:80"]'), {**TWO, **RAW}, "both colors would publish port 8000", '"127.0.0.1:${WEB_PORT:?}:80"'),
        (web('ports: ["8000:80"]'), {**TWO, "other_ports": [("", 8000)]}, "both colors would publish port 8000", "own value in each env file"),
        (web('ports: ["127.0.0.1:${PORT}:80"]'), {**TWO, "other_ports": [("0.0.0.0", 8000)]}, "both colors would publish port 8000", "own value"),
        (web('ports: ["127.0.0.1:${PORT}:80", "5300:53/udp"]'), TWO, "both colors would publish port 5300", '"127.0.0.1:${WEB_PORT:?}:53/udp"'),
        (web('ports: ["10.0.0.5:${PORT}:80"]'), TWO, "port 8000 is published on 10.0.0.5", '"127.0.0.1:${PORT}:80"'),
        (web('ports: ["8000-8005:80"]'), {}, "publishes one of the ports 8000-8005", "publish one port"),
        (web('ports: ["8000:80"]\ndeploy: {replicas: 2}'), {}, "2 replicas cannot all publish port 8000", "replicas: 1"),
        (web("scale: 3\nports: [{published: '8000', target: 80}]"), {}, "3 replicas cannot all publish port 8000", "replicas: 1"),
        (web("volumes: [data:/data]", "volumes: {data: {}}\n"), TWO, "volume data (/data) belongs to one color", 'per_color = ["data"]'),
        (web("volumes: [data:/data]", "volumes: {data: {name: '${COMPOSE_PROJECT_NAME}_d'}}\n"), TWO, "users would meet it empty", "a fixed name"),
        (web("volumes: [/data]"), TWO, "/data is an unnamed volume", "data:/data"),
        (web("volumes: [data:/data]\nenvironment: {DATABASE_URL: 'sqlite:////data/app.db'}", "volumes: {data: {name: shop_data}}\n"), TWO, "DATABASE_URL names a database file in it", 'shared = ["data"]'),
        (web("volumes: ['./d:/var/lib/x']\nenvironment: {DB_FILE: /var/lib/x/app.sqlite3}"), TWO, "both colors would write to /srv/shop/d (/var/lib/x)", "shared"),
        (web("image: quay.io/x/grafana:${IMAGE_TAG}\nvolumes: ['/srv/g:/var/lib/grafana']"), TWO, "grafana keeps it for one process", "release in place"),
        (web("healthcheck: {test: ['CMD', '/app', '--version']}"), {}, "'/app --version' proves nothing", "readiness"),
        (web("healthcheck: {test: ['CMD', 'ask'], interval: 8760h}"), {}, "its healthcheck has an interval of 8760h0m0s", "at most 30d"),
        (web("healthcheck: {test: ['CMD', 'ask'], start_period: 100us}"), {}, "its healthcheck has a start_period of 100", "at least 1ms"),
        (web("stop_grace_period: 9999h"), {}, "it has a stop_grace_period of 9999h0m0s", "at most 30d"),
        (web("healthcheck: {test: 'true'}"), {}, "'true' proves nothing", "readiness"),
        (web("healthcheck: {test: ['CMD-SHELL', 'curl -f http://127.0.0.1 || exit 0']}"), {}, "proves nothing", "readiness"),
        (web("healthcheck: {test: 'exit 0'}"), {}, "'exit 0' proves nothing", "readiness"),
        (web("healthcheck: {test: ['CMD', 'sh', '-c', 'exit 0']}"), {}, "'exit 0' proves nothing", "readiness"),
        (web("healthcheck: {test: 'echo ok'}"), {}, "'echo ok' proves nothing", "readiness"),
        (web("healthcheck: {test: 'curl http://127.0.0.1/ || exit 1'}"), {}, "passes on every status", "curl --fail"),
        (web("healthcheck: {test: 'curl http://127.0.0.1/ || (kill 1 | cat)'}"), {}, "passes on every status", "curl --fail"),
        (web("healthcheck: {test: 'wget -q --spider http://localhost:80/'}"), {}, "asks localhost", "127.0.0.1"),
        (web("healthcheck: {interval: 3s}"), {"images": {"web": {"Config": {"Healthcheck": {"Test": ["CMD-SHELL", "nc -z localhost 80"]}}}}}, "asks localhost", "127.0.0.1"),
        (web("user: 0:0"), {}, "runs as root", '[gate] user = "root"'),
        (GOOD.replace('    user: "1000"\n', ""), {"images": ROOT}, "runs as root", "user: 1000:1000"),
        (web("network_mode: host"), {}, "network_mode: host publishes no port", "networks and ports"),
        (web("network_mode: service:db", DB), {}, "network_mode: service:db is not released with it", "add 'db' to services"),
        (web("pid: service:db", DB), {}, "pid: service:db is not released with it", "add 'db' to services"),
        (web("pid: container:other"), {}, "pid: container:other is another project's container", "service:NAME"),
        (web("volumes_from: [db]", DB), {}, "volumes_from db", "mount the volume by its name"),
        (web("init: true", "  side: {image: side:1, network_mode: 'service:web'}\n"), {}, "side lives in its network namespace", "add 'side' to services"),
        (web("init: true", "networks: {default: {name: shared, external: true}}\n"), TWO, "both colors answer to web on the network shared", "${COMPOSE_PROJECT_NAME}-web"),
        (web("networks: {n: {aliases: [api]}}", "networks: {n: {name: fixed}}\n"), TWO, "both colors answer to api on the network fixed", "aliases"),
        (web("logging: {driver: none}"), {}, "logging: none keeps no log", "driver: local"),
        (web("logging: {driver: syslog, options: {syslog-address: 'tcp://10.0.0.9:514'}}"), {}, "no container starts while tcp://10.0.0.9:514", "udp://"),
        (web("logging: {driver: gelf, options: {cache-disabled: 'true'}}"), {}, "gelf without its cache cannot be read", "cache-disabled"),
        (web("depends_on: {job: {condition: service_completed_successfully}}", JOB + DB), {"running": []}, "depends on db, which does not run in the project shop_blue", "up --detach db"),
        (web("depends_on: {db: {condition: service_healthy}}", DB), {"running": []}, "depends on db, which does not run in the project shop_blue", "up --detach db"),
        (web("depends_on: [db]", DB), {"running": ["web"]}, "depends on db, which does not run in the project shop_blue", "--project-name shop_blue up --detach db"),
        (web("depends_on: [db]", DB), TWO, "depends on db, which only the networks of one project reach", "external: true"),
        (web("profiles: [prod]", DB), {"source": {"services": {"web": {"profiles": ["prod"]}}}}, "has profiles prod, and none of them is active", "COMPOSE_PROFILES=prod"),
        (GOOD.replace("web:", "api:"), {}, "there is no service 'web'", "it has api: correct services"),
        (GOOD, {"images": {"web": IMAGE}, "architecture": "arm64"}, "its image is for amd64, this engine is arm64", "linux/arm64"),
    ],
)  # fmt: skip
def test_finds_what_a_release_would_stumble_on(
    text: str, facts: dict[str, Any], what: str, todo: str
) -> None:
    """One finding for one fault, with the way out."""
    found = compose_findings(use_of(text, dict(facts)))
    assert [(what in each.what, todo in each.todo) for each in found] == [(True, True)], found
    assert found[0].where == "compose.yml"


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (GOOD, {"two_colors": True, "tag": "1", "other_ports": [("127.0.0.1", 8001)], "images": {"web": IMAGE}, "architecture": "amd64"}),
        (web("image: ${REPO:-reg:5000/app}:${TAG:-latest}"), {**RAW, "tag_key": "TAG"}),
        (web("init: true", "  side: {image: 'redis:7', healthcheck: {test: [CMD, ask]}, user: '1'}\n"), {"tag": "1", "services": ("web", "side"), **RAW}),
        (web("image: ${IMAGE:-app:1}"), {"tag": "1"}),  # Compose makes the asked tag of it
        (web('container_name: shop\nports: ["8000:80"]\nvolumes: [data:/data]', "volumes: {data: {}}\n"), {}),
        (web("container_name: ${COMPOSE_PROJECT_NAME}-web"), TWO),
        (web('ports: ["127.0.0.2:8000:80"]'), {**TWO, "other_ports": [("127.0.0.1", 8000)]}),
        (web('ports: ["${ADDRESS:-127.0.0.2}:8000:80"]'), {**TWO, **RAW, "other_ports": [("127.0.0.1", 8000)]}),
        (web('ports: ["${PORT}:53/udp"]'), {**TWO, "other_ports": [("", 8000)]}),
        (web('ports: ["10.0.0.5:8000:80"]'), {}),
        (web('ports: ["10.0.0.5:${PORT}:80", "[::1]:${PORT}:80"]'), TWO),
        (web("volumes: [data:/data]", "volumes: {data: {name: shop_data}}\n"), TWO),
        (web("volumes: [data:/data]", "volumes: {data: {external: true}}\n"), TWO),
        (web("volumes: [data:/data]", "volumes: {data: {name: shop_blue_data}}\n"), TWO),  # shared, though it looks like one color's
        (web("volumes: [data:/data]", "volumes: {data: {}}\n"), {**TWO, "own_volumes": ["data"]}),
        (web("volumes: [data:/data]\nenvironment: {DB: sqlite:////data/x.db}", "volumes: {data: {name: d}}\n"), {**TWO, "shared_volumes": ["data"]}),
        (web("volumes: ['/d:/data:ro']\nenvironment: {DB: sqlite:////data/x.db}"), TWO),
        (web("volumes: ['/d:/data']\nenvironment: {DB: sqlite:////other/x.db}"), TWO),
        (web("healthcheck: {interval: 3s}"), {}),  # the image is not here: not known
        (web("healthcheck: {test: 'curl -sf http://127.0.0.1/ || exit 1'}"), {}),
        (web("healthcheck: {test: 'curl -s http://127.0.0.1/health | grep -q green || exit 1'}"), {}),
        (web("""healthcheck: {test: '[ "$$(curl -so /dev/null -w "%{http_code}" http://127.0.0.1/)" = 200 ]'}"""), {}),
        (web("healthcheck: {test: 'wget -q --spider http://localhost:80/'}"), {"healthy": ["web"]}),
        (web("healthcheck: {test: ['CMD', 'pg_isready', '--host', 'not-localhost.example']}"), {}),
        (web("user: root"), {"gate_user": "root"}),
        (web("networks: {n: {aliases: ['${COMPOSE_PROJECT_NAME}-web']}}", "networks: {n: {name: fixed}}\n"), TWO),
        (web("logging: {driver: json-file}"), {}),
        (web("logging: {driver: fluentd, options: {fluentd-address: 'tcp://h:1', fluentd-async: 'true'}}"), {}),
        (web("depends_on: {job: {condition: service_completed_successfully}}", JOB + DB), {"running": ["db"]}),
        (web("depends_on: {db: {condition: service_healthy, required: false}}", DB), {"running": []}),
        (web("depends_on: {db: {condition: service_healthy}}", DB), {}),  # the engine was not asked
        (web("init: true", "  side: {image: 'redis:7', healthcheck: {disable: true}, user: '1'}\n"), {"services": ("web", "side")}),
        (web("depends_on: [db]", DB), {"running": ["db"]}),
        (web("depends_on: [db]\nnetworks: {n: {aliases: ['${COMPOSE_PROJECT_NAME}-w']}}", DB + "networks: {n: {external: true}}\n"), TWO),
    ],
)  # fmt: skip
def test_says_nothing_of_what_can_be_released(text: str, facts: dict[str, Any]) -> None:
    """No finding for a sane file, for what is declared, and for what is not known."""
    assert compose_findings(use_of(text, dict(facts))) == []


def test_a_refusal_is_one_of_the_rules() -> None:
    """The preflight refuses by a part of the rules."""
    assert set(REFUSING) < set(RULES)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("app", ("app", "")),
        ("app:1", ("app", "1")),
        ("reg:5000/app", ("reg:5000/app", "")),
        ("reg:5000/a/app:1@sha256:0", ("reg:5000/a/app", "1")),
        ("${R:-reg:5000/app}:${TAG:-a/b}", ("${R:-reg:5000/app}", "${TAG:-a/b}")),
        ("${IMAGE:-app:${TAG}}", ("${IMAGE:-app:${TAG}}", "")),
    ],
)
def test_an_image_has_a_repository_and_a_tag(image: str, expected: tuple[str, str]) -> None:
    """Colons in a registry and in variables are not those before a tag."""
    assert split_image(image) == expected


@pytest.mark.parametrize(
    ("text", "name"),
    [("$TAG", "TAG"), ("${TAG}", "TAG"), ("${TAG:-${OLD:-1}}", "TAG"), ("${TAG:?say which}", "TAG"), ("v${TAG}", ""), ("${A}${B}", ""), ("1", "")],
)  # fmt: skip
def test_a_variable_is_the_whole_value(text: str, name: str) -> None:
    """A part of a value is no variable of its own."""
    assert variable_of(text) == name
    assert split_outside(f"a:{text}:b") == ["a", text, "b"]

"""`cutover init` in the folders of ordinary Compose projects; no engine is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from click.testing import CliRunner

from cutover.cli.init import init_command
from cutover.core.config import load_config
from cutover.core.errors import ConfigError
from cutover.env.compose_rules import REFUSING, compose_findings, use_of
from cutover.env.envfile import read_env_file
from cutover.system import compose, docker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from click.testing import Result

SHOP = """\
# The shop
name: shop
services:
  web:
    image: ghcr.io/acme/shop:2.8.1   # the release
    container_name: shop
    ports:
      - "8000:80"
    depends_on: {db: {condition: service_healthy}}
    volumes: [data:/data]
    environment:
      DB_PASSWORD: ${DB_PASSWORD}
    healthcheck:
      test: curl -f http://127.0.0.1/healthz
  db:
    image: postgres:15
    volumes: [pg:/var/lib/postgresql/data]
volumes:
  data:
  pg: {}
"""
BLOG = """\
services:
  blog:
    image: "registry.local:5000/blog:${BLOG_TAG:-latest}"
    ports: ["${BLOG_PORT:-3000}:3000"]
    user: root
"""
BLOG_PROD = """\
services:
  blog:
    restart: unless-stopped # in production
    environment: {MODE: production}
"""
OF_PROFILES = """\
services:
  web: {image: "shop:1", profiles: [prod]}
  job: {image: "shop:1", profiles: [night, prod]}
"""
API = """\
services:
  # built here
  api:
    build: .
    ports:
      - target: 8080
        published: 9090
    volumes:
      - uploads:/uploads
  worker:
    build: .
    command: work
volumes:
  uploads: {}
"""
SITE = 'services: {site: {image: nginx:1.27-alpine, ports: ["8080:80", "8443:443"]}}\n'
QUEUE = """\
x-base: &base
  image: acme/queue:v7
services:
  web:
    <<: *base
    ports: [ "127.0.0.1:4000:4000" ]
    networks: [front]
  consumer:
    <<: *base
  redis: {image: "redis:7"}
networks:
  front: {}
"""
QUEUE_OVERRIDE = """\
services:
  web:
    image: acme/queue:v8
    healthcheck: {test: ["CMD", "wget", "-q", "http://127.0.0.1:4000/up"]}
"""


@dataclass
class Kind:
    """A Compose project as people have it, and what `cutover init` makes of it."""

    files: Mapping[str, str]
    words: tuple[str, ...]
    services: tuple[str, ...]
    ready: str
    colors: tuple[str, ...]
    image: str
    """The image of `--deploy=sha-9`, after the changes."""
    diff: tuple[str, ...]
    """Lines of the printed changes."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Values of the last color's env file."""
    by_hand: int = 0


KINDS = {
    "a tag written out, a database beside it": Kind(
        {"compose.yml": SHOP}, (), ("web",), "/healthz", ("blue",), "ghcr.io/acme/shop:sha-9",
        ("-    image: ghcr.io/acme/shop:2.8.1   # the release", "+    image: ghcr.io/acme/shop:${IMAGE_TAG:?}   # the release"),
        {"IMAGE_TAG": "2.8.1", "DB_PASSWORD": "<db_password>"},
    ),
    "the same behind nginx": Kind(
        {"compose.yml": SHOP, ".env": "DB_PASSWORD='pa ss' # secret\n"}, ("--proxy=nginx",), ("web",), "/healthz", ("blue", "green"),
        "ghcr.io/acme/shop:sha-9",
        ("-    container_name: shop", '+      - "127.0.0.1:${WEB_PORT:?}:80"', "+    name: shop_data", "+    external: true", '+        aliases: ["${COMPOSE_PROJECT_NAME}-web"]'),
        {"IMAGE_TAG": "2.8.1", "WEB_PORT": "8001", "DB_PASSWORD": "pa ss"},
    ),
    "COMPOSE_FILE and an own variable": Kind(
        {"base.yml": BLOG, "prod.yml": BLOG_PROD, ".env": "COMPOSE_FILE=base.yml:prod.yml\nBLOG_TAG=5.1\n"}, ("--ready=/ok",), ("blog",), "/ok", ("blue",),
        "registry.local:5000/blog:sha-9", (), {"BLOG_TAG": "5.1"},
    ),
    "only built, long ports, behind Traefik": Kind(
        {"docker-compose.yml": API}, ("--proxy=traefik", "--project=things"), ("api",), "/", ("blue", "green"), "kind/api:sha-9",
        ("+    image: kind/api:${IMAGE_TAG:?}", '+        published: "${API_PORT:?}"', "+  uploads: {name: kind_uploads}"), {"API_PORT": "9091"},
    ),
    "one line, two ports, behind HAProxy": Kind(
        {"compose.yaml": SITE}, ("--proxy=haproxy",), ("site",), "/", ("blue", "green"), "nginx:sha-9",
        ('+services: {site: {image: "nginx:${IMAGE_TAG:?}", ports: ["127.0.0.1:${SITE_PORT:?}:80", "127.0.0.1:${SITE_PORT_443:?}:443"]}}',),
        {"SITE_PORT": "8082", "SITE_PORT_443": "8444"},
    ),
    "an override beside it, anchors, two services": Kind(
        {"compose.yml": QUEUE, "compose.override.yml": QUEUE_OVERRIDE}, ("--service=web", "--service=consumer"), ("web", "consumer"), "/up", ("blue",),
        "acme/queue:sha-9", ("+++ b/compose.yml", "+++ b/compose.override.yml", "+    image: acme/queue:${IMAGE_TAG:?}"), {"IMAGE_TAG": "v8"},
    ),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder `kind` as current directory, and an engine without images."""
    here = tmp_path / "kind"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(docker, "inspect_image", lambda _: None)
    for name in ("COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"):
        monkeypatch.delenv(name, raising=False)
    return here


def init(*words: str) -> Result:
    """Run `cutover init` without a terminal."""
    return CliRunner().invoke(init_command, words, standalone_mode=False)


def facts_of(*words: str) -> dict[str, Any]:
    """What `cutover init --json` says."""
    done = init(*words, "--json")
    assert done.exception is None, done.exception
    found: dict[str, Any] = json.loads(done.output)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_writes_what_a_release_needs(folder: Path, name: str) -> None:
    """At most 12 lines of configuration; after the changes a release chooses the tag, and nothing forbids it."""
    kind = KINDS[name]
    for path, text in kind.files.items():
        (folder / path).write_text(text)
    facts = facts_of(*kind.words)
    assert facts["kept"] == []
    assert all(line in facts["diff"].splitlines() for line in kind.diff), facts["diff"]
    assert {path: (folder / path).read_text() for path in kind.files} == kind.files

    settings = load_config(folder / "cutover.toml")
    lines = (folder / "cutover.toml").read_text().splitlines()
    assert len(lines) <= 12
    assert (settings.services, settings.ready.path, tuple(settings.colors)) == (
        kind.services,
        kind.ready,
        kind.colors,
    )
    changed = facts_of(*kind.words, "--write-compose")
    assert (changed["written"], changed["compose_written"]) == ([], bool(kind.diff))
    rendered = [compose.render(settings, color, "sha-9") for color in kind.colors]
    assert [each.image(settings.service) for each in rendered] == [kind.image] * len(rendered)
    for mine, other in zip(rendered, reversed(rendered), strict=True):
        use = use_of(settings, mine, other if mine is not other else None, tag="sha-9")
        assert compose_findings(use, REFUSING) == []
    values = read_env_file(folder / f".env.{kind.colors[-1]}")
    assert {key: values[key] for key in kind.env} == kind.env
    for color in kind.colors:
        assert (folder / f".env.{color}").stat().st_mode & 0o777 == 0o600
    comments = [line.strip() for text in kind.files.values() for line in text.splitlines() if "#" in line]
    kept = "".join((folder / path).read_text() for path in kind.files)
    assert all(line.partition("#")[2] in kept for line in comments)
    again = facts_of(*kind.words)
    assert (again["written"], again["diff"]) == ([], "")


@pytest.mark.parametrize("proxy", ["nginx", "traefik", "haproxy"])
def test_the_proxy_gets_the_ports_of_the_colors(folder: Path, proxy: str) -> None:
    """The shipped configuration, with our ports and our marker."""
    (folder / "compose.yml").write_text(SHOP.replace("8000:80", "7100:80"))
    facts = facts_of(f"--proxy={proxy}")
    text = "".join((folder / path).read_text() for path in facts["written"] if path.startswith("proxy/"))
    assert ("127.0.0.1:7100" in text, "127.0.0.1:7101" in text, "127.0.0.1:8000" in text) == (
        True,
        True,
        False,
    )
    assert ("recall-live" in text, "recall:" in text) == (False, False)
    assert all(path.stat().st_mode & 0o111 for path in folder.glob("proxy/*.sh"))


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        ({}, (), "no compose file in .*kind: looked for compose.yaml, .*; name one with --file"),
        ({}, ("--file=x.yml",), r"x.yml: no such file \(from --file\)"),
        ({".env": "COMPOSE_FILE=gone.yml\n"}, (), r"gone.yml: no such file \(from COMPOSE_FILE\)"),
        ({"compose.yml": "services: {a: {image: a:1, ports: ['1:1']}, b: {image: b:1, ports: ['2:2']}}"}, (), "which service gets the traffic\\? --service=a or b"),
        ({"compose.yml": "services: {db: {image: postgres:15}}"}, (), "only databases; name one with --service"),
        ({"compose.yml": BLOG}, ("--service=web",), "--service web: the compose file has blog"),
        ({"compose.yml": OF_PROFILES}, (), "no profile is active: COMPOSE_PROFILES in .env chooses among night, prod; or take the profile off"),
        ({"compose.yml": OF_PROFILES}, ("--service=job",), "service 'job' has profiles night, prod, and none of them is active: COMPOSE_PROFILES=night"),
        ({"compose.yml": OF_PROFILES, ".env": "COMPOSE_PROFILES=night\n"}, ("--service=web",), "service 'web' has profiles prod"),
        ({"compose.yml": BLOG}, ("--ready=ok",), "--ready ok: a path begins with /"),
        ({"compose.yml": BLOG}, ("--project=My Shop",), "--project My Shop: lower-case letters"),
        ({"compose.yml": "services: ["}, (), "docker compose config: "),
        ({"compose.yml": "services: {a: {imag: a}}"}, (), "docker compose config: .*imag"),
        ({"compose.yml": "services: {a: {image: 'a:${T}', pull_policy: '${P}'}}", ".env": "T=2"}, (), "pull_policy .*; P has no value, and 1 stands for it here: give it one in .env"),
        ({"compose.yml": "services: {a: {image: 'a:1', ports: ['${ADDRESS}:80:80', '${P:-81}:81']}}"}, (), "; ADDRESS has no value, and 1"),
        ({"compose.yml": BLOG, "proxy": ""}, ("--proxy=nginx",), "proxy/cutover.conf cannot be written"),
    ],
)  # fmt: skip
def test_says_in_one_line_what_is_missing(folder: Path, files: dict[str, str], words: tuple[str, ...], message: str) -> None:  # fmt: skip
    """Without a terminal nothing is asked: exit 4, with the option that answers."""
    for path, text in files.items():
        (folder / path).write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        CliRunner().invoke(init_command, words, standalone_mode=False, catch_exceptions=False)
    assert raised.value.exit_code == 4
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("words", [("--proxy=nginx",), ("--service=web", "--service=db")])
def test_changes_nothing_for_another_configuration(folder: Path, words: tuple[str, ...]) -> None:
    """A compose file for two colors would not fit a cutover.toml that has one."""
    (folder / "compose.yml").write_text(SHOP)
    facts_of()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        ConfigError, match=r"cutover\.toml exists, for blue, services web: give --proxy and --service"
    ):
        CliRunner().invoke(
            init_command, [*words, "--write-compose"], standalone_mode=False, catch_exceptions=False
        )
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_compose_file_that_cannot_be_written_changes_nothing(folder: Path) -> None:
    """One line and exit 4, and no file beside it is written; here the draft has a name that is too long."""
    file = folder / f"{'x' * 251}.yml"
    file.write_text(SHOP)
    words = ["--file", str(file), "--write-compose"]
    with pytest.raises(ConfigError, match=r"\.yml cannot be written: File name too long$") as raised:
        CliRunner().invoke(init_command, words, standalone_mode=False, catch_exceptions=False)
    assert raised.value.exit_code == 4
    assert {path.name: path.read_text() for path in folder.iterdir()} == {file.name: SHOP}


def test_what_cannot_be_changed_in_the_text_is_said(folder: Path) -> None:
    """Networks that the files name already are changed by hand; an anchor is changed once."""
    text = """
x-ports: &ports ["8000:80"]
services:
  web: {image: "app:1", ports: *ports, networks: [back]}
  redis: {image: "redis:7", networks: [back]}
networks: {back: {}}
"""
    (folder / "compose.yml").write_text(text)
    facts = facts_of("--proxy=nginx")
    assert facts["by_hand"] == [
        "networks.back: name: kind_back, external: true",
        'services.web.networks.back: aliases: ["${COMPOSE_PROJECT_NAME}-web"]',
    ]
    assert load_config(folder / "cutover.toml").shared_network == "kind_back"
    assert '+x-ports: &ports ["127.0.0.1:${WEB_PORT:?}:80"]' in facts["diff"]


IMAGE = "app:${IMAGE_TAG:?}"
ANCHORED = {
    "an image": (
        "web: {image: &app 'app:1', ports: ['8000:80']}\n  job: {image: *app}", ["web", "job"], "", [],
        {"web": IMAGE, "job": IMAGE},
    ),
    "a block": (
        "web:\n    image: &app !!str app:1\n    ports: ['8000:80']\n  job:\n    image: *app", ["web", "job"], "", [],
        {"web": IMAGE, "job": IMAGE},
    ),
    "on the next line": (
        "web:\n    image: &app\n      app:1\n    ports: ['8000:80']", ["web"], "", [], {"web": IMAGE},
    ),
    "of another service": (
        "web: {image: &app 'app:1', ports: ['8000:80']}\n  job: {image: *app}", ["web"], "",
        ["services.web: image: " + IMAGE], {"web": "app:1", "job": "app:1"},
    ),
    "a service": (
        "web: &web\n    build: .\n    ports: ['8000:80']", ["web"], "", [], {"web": "kind/web:${IMAGE_TAG:?}"},
    ),
    "a service with a comment": (
        "web: &web # main\n    # built\n    build: .\n    ports: ['8000:80']", ["web"], "", [],
        {"web": "kind/web:${IMAGE_TAG:?}"},
    ),
    "merged elsewhere": (
        "web: &web\n    build: .\n    ports: ['8000:80']\n  job:\n    <<: *web\n    ports: []", ["web"], "",
        ["services.web: image: kind/web:${IMAGE_TAG:?}"], {},
    ),
    "a name": (
        "web:\n    image: app:1\n    container_name: &n shop\n    hostname: *n\n    ports: ['8000:80']", ["web"],
        "nginx", ["services.web: remove container_name"], {"web": IMAGE},
    ),
    "a port": (
        "web:\n    image: app:1\n    ports: [&p '8000:80']\n  job: {image: 'job:1', ports: [*p]}", ["web"], "nginx",
        ["services.web.ports: 127.0.0.1:${WEB_PORT:?}:80"], {"web": IMAGE, "job": "job:1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANCHORED)
def test_anchors_and_tags_stay(folder: Path, name: str) -> None:
    """What is written can be read, and says the same about everything else; what cannot be is changed by hand."""
    text, services, proxy, by_hand, images = ANCHORED[name]
    (folder / "compose.yml").write_text(f"services:\n  {text}\n")
    words = [f"--service={each}" for each in services] + ([f"--proxy={proxy}"] if proxy else [])
    facts = facts_of(*words, "--write-compose")
    assert facts["by_hand"] == by_hand
    written = yaml.safe_load((folder / "compose.yml").read_text())["services"]
    before = yaml.safe_load(f"services:\n  {text}\n")["services"]
    assert {key: written[key]["image"] for key in images} == images
    for key, service in before.items():
        mine = {"image", "ports", "container_name", "networks"} if key in services else set[str]()
        kept = {each: value for each, value in service.items() if each not in mine}
        assert kept.items() <= written[key].items()


def test_ports_that_an_override_takes_away(folder: Path) -> None:
    """A value that is no list has no row to change."""
    web = "image: app:1\n    ports: ['8000:80']\n    volumes: ['data:/data']"
    (folder / "compose.yml").write_text(f"services:\n  web:\n    {web}\n")
    (folder / "compose.override.yml").write_text(
        "services:\n  web:\n    ports: !reset null\nvolumes:\n  data:\n"
    )
    assert facts_of("--service=web", "--proxy=nginx")["by_hand"] == []


def test_asks_at_a_terminal_what_it_cannot_see(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service, if several may get the traffic, and the readiness path, if no health check shows it."""
    monkeypatch.setattr("cutover.cli.init.is_terminal", lambda: True)
    text = "services: {a: {image: 'a:1', ports: ['1:1']}, b: {image: 'b:1', ports: ['2:2']}}"
    (folder / "compose.yml").write_text(text)
    done = CliRunner().invoke(init_command, [], input="b\n/ok\n", standalone_mode=False)
    assert done.exception is None, done.exception
    settings = load_config(folder / "cutover.toml")
    assert (settings.services, settings.ready.path) == (("b",), "/ok")


def test_a_compose_file_of_another_folder(folder: Path) -> None:
    """It is named by its path, and an empty variable of `.env` is a value."""
    elsewhere = folder.parent / "x.yml"
    elsewhere.write_text("services: {web: {image: 'app:1${SUFFIX}', ports: ['80:80']}}")
    (folder / ".env").write_text("SUFFIX=\n")
    facts = facts_of("--file", str(elsewhere), "--project=x")
    assert f"--- a/{elsewhere}" in facts["diff"]
    assert load_config(folder / "cutover.toml").compose_file == elsewhere
    assert read_env_file(folder / ".env.blue") == {"SUFFIX": "", "IMAGE_TAG": "1"}


UNSET = """\
services:
  web:
    image: ${APP_IMAGE}
    ports: ["${WEB_PORT}:8000"]
    environment: {NAME: "${COMPOSE_PROJECT_NAME}"}
    healthcheck: {test: "curl -f http://localhost:8000/${HEALTH}"}
  jobs: {image: "${JOBS_IMAGE}"}
"""


@pytest.mark.parametrize(
    ("port", "blue", "green", "moves"),
    [(8080, "8081", "8082", ["blue to port 8081: the proxy takes over 8080"]), (8079, "8079", "8081", [])],
)
def test_the_port_of_the_proxy_is_taken(
    folder: Path, port: int, blue: str, green: str, moves: list[str]
) -> None:
    """No color gets it; a service that publishes it now gives it up, so that users find the proxy there."""
    (folder / "compose.yml").write_text(SHOP.replace("8000:80", f"{port}:80"))
    facts = facts_of("--proxy=nginx")
    assert facts["moves"] == moves
    values = [read_env_file(folder / f".env.{color}")["WEB_PORT"] for color in ("blue", "green")]
    assert values == [blue, green]
    conf = (folder / "proxy/cutover.conf").read_text()
    assert all(f"127.0.0.1:{each};" in conf for each in (blue, green, "8080"))
    assert load_config(folder / "cutover.toml").proxy.url == "http://127.0.0.1:8080"  # type: ignore[union-attr]


def test_any_free_port_stays_that(folder: Path) -> None:
    """Each color gets one of its own without a variable; the service with the traffic needs a known one."""
    text = "services: {a: {image: 'a:1', ports: ['127.0.0.1::9000', '7000:80']}, b: {image: 'b:1', ports: ['127.0.0.1::9000']}}"
    (folder / "compose.yml").write_text(text)
    facts_of("--service=a", "--service=b", "--proxy=nginx", "--write-compose")
    after = (folder / "compose.yml").read_text()
    assert "ports: ['127.0.0.1::9000', \"127.0.0.1:${A_PORT:?}:80\"]" in after
    assert "b: {image: 'b:1', ports: ['127.0.0.1::9000']}" in after
    assert read_env_file(folder / ".env.green") == {"IMAGE_TAG": "1", "A_PORT": "7001"}


@pytest.mark.parametrize("udp", ["'5182:5182/udp'", "{target: 5182, published: 5182, protocol: udp}"])
def test_the_traffic_is_on_a_port_of_tcp(folder: Path, udp: str) -> None:
    """The proxy gets the TCP port, also where one of UDP is written first."""
    (folder / "compose.yml").write_text(
        f"services:\n  vpn:\n    image: vpn:1\n    ports: [{udp}, '7000:80']\n"
    )
    facts_of("--proxy=nginx", "--write-compose")
    assert "127.0.0.1:${VPN_PORT:?}:80" in (folder / "compose.yml").read_text()
    assert read_env_file(folder / ".env.blue") == {
        "IMAGE_TAG": "1",
        "VPN_PORT": "7000",
        "VPN_PORT_5182": "5182",
    }
    conf = (folder / "proxy/cutover.conf").read_text()
    assert all(f"127.0.0.1:{port};" in conf for port in (7000, 7001))


@pytest.mark.parametrize("proxy", ["none", "nginx"])
def test_what_has_no_value_is_not_invented(folder: Path, proxy: str) -> None:
    """A variable without a value is to be filled in, in all that depends on it; its image is changed by hand."""
    (folder / "compose.yml").write_text(UNSET)
    facts = facts_of("--service=web", "--service=jobs", f"--proxy={proxy}", "--write-compose")
    keys = ["APP_IMAGE", "HEALTH", "IMAGE_TAG", "JOBS_IMAGE", "WEB_PORT"]
    for color in ("blue", "green") if proxy == "nginx" else ("blue",):
        values = read_env_file(folder / f".env.{color}")
        assert sorted(key for key in values if values[key].startswith("<")) == keys
        assert sorted(each for each in facts["fill_in"] if color in each[:10]) == [
            f".env.{color}: {key}" for key in keys
        ]
    conf = "proxy/cutover.conf: the ports of blue and green, in place of 8000 and 8001"
    assert (conf in facts["fill_in"]) is (proxy == "nginx")
    assert facts["by_hand"] == [
        "services.web: image: <repository>:${IMAGE_TAG:?}, in place of ${APP_IMAGE}, which has no value"
    ]
    assert "image: ${APP_IMAGE}" in (folder / "compose.yml").read_text()
    settings = load_config(folder / "cutover.toml")
    assert (settings.project, settings.ready.path) == ("kind", "/")


def test_a_variable_in_a_comment_is_none(folder: Path) -> None:
    """Compose replaces variables in values only, also in a line of a text that looks like a comment."""
    (folder / "compose.yml").write_text(
        'services:\n  web:\n    image: "app:1"  # was ${OLD:?}\n    # ${OLDER}\n    command: "serve #${ROOT}"\n'
        "configs:\n  a:\n    content: |\n      # ${LINE}\n"
    )
    assert facts_of()["fill_in"] == [".env.blue: ROOT", ".env.blue: LINE"]


def test_never_overwrites(folder: Path) -> None:
    """What is there stays, and the output says so."""
    (folder / "compose.yml").write_text(SHOP)
    (folder / "cutover.toml").write_text("mine")
    (folder / ".env.blue").symlink_to("nowhere")
    done = init()
    assert "  kept     cutover.toml: it exists, and is not overwritten" in done.output.splitlines()
    assert "  kept     .env.blue: it exists, and is not overwritten" in done.output.splitlines()
    assert "fill in" not in done.output
    assert (folder / "cutover.toml").read_text() == "mine"
    assert not (folder / "nowhere").exists()


def test_what_runs_is_adopted_as_it_is(folder: Path) -> None:
    """In place, Compose gives each service the hash that its container has: the first release can be reverted."""
    (folder / "compose.yml").write_text(SHOP)
    (folder / ".env").write_text("DB_PASSWORD='pa ss'\n")
    before = compose.config_hashes(compose.Compose("shop", folder / "compose.yml"))
    facts_of("--write-compose")
    settings = load_config(folder / "cutover.toml")
    blue = settings.colors["blue"]
    assert settings.compose_project("blue") == "shop"
    assert compose.config_hashes(compose.Compose("shop", settings.compose_file, blue.env_file)) == before


def test_an_image_that_runs_as_root_is_declared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of an image that is here, and the path of its HEALTHCHECK, need not be asked."""
    image = {
        "Config": {
            "User": "",
            "Healthcheck": {"Test": ["CMD-SHELL", "wget -qO- localhost:80/live || exit 1"]},
        }
    }
    monkeypatch.setattr(docker, "inspect_image", lambda _: image)
    (folder / "compose.yaml").write_text(SITE)
    facts_of()
    settings = load_config(folder / "cutover.toml")
    assert (settings.gate.user, settings.gate.read_only_paths, settings.ready.path) == (
        "root",
        ("/",),
        "/live",
    )


@pytest.mark.parametrize("text", [SHOP.replace("\n", "\r\n"), "\ufeff" + SHOP])
def test_line_ends_and_a_byte_order_mark_stay(folder: Path, text: str) -> None:
    """Only the changed lines change."""
    (folder / "compose.yml").write_bytes(text.encode())
    facts_of("--proxy=nginx", "--write-compose")
    after = (folder / "compose.yml").read_bytes().decode()
    assert after[0] == text[0]
    assert after.count("\r\n") == (after.count("\n") if "\r" in text else 0)
    assert "image: ghcr.io/acme/shop:${IMAGE_TAG:?}   # the release" in after

"""The version of Compose, and the rendered configuration of a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config import Settings, load_config
from cutover.core.errors import ConfigError
from cutover.system import compose, process
from cutover.system.compose import Rendered, has_known_hash
from cutover.system.swarm import COMPLETED

OLD = """\
#!/bin/sh
case "$*" in
"compose version --short") echo "{version}" ;;
*) echo "unknown flag: --environment" >&2; exit 16 ;;
esac
"""
NONE = """\
#!/bin/sh
echo "docker: 'compose' is not a docker command." >&2; exit 1
"""


def answered(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Install *script* as docker command, and return the settings of a project."""
    command = folder / "docker"
    command.write_text(script)
    command.chmod(0o755)
    monkeypatch.setattr(process, "FIXED_PATH", f"{folder}:{process.FIXED_PATH}")
    (folder / "docker-compose.yml").write_text("services: {}\n")
    (folder / ".env").write_text("IMAGE_TAG=sha-1\n")
    table = {"project": "p", "colors": {"blue": {"env_file": folder / ".env"}}}
    return Settings.model_validate(table | {"compose_file": folder / "docker-compose.yml"})


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (OLD.format(version="2.27.3"), "docker compose is 2.27.3: too old, 2.28 or newer is needed"),
        (OLD.format(version="v2.3.3+ds1"), "docker compose is v2.3.3+ds1: too old, 2.28 or newer is needed"),
        (OLD.format(version="1.29.2"), "docker compose is 1.29.2: too old, 2.28 or newer is needed"),
        (
            NONE,
            "docker compose does not answer: docker: 'compose' is not a docker command.; Compose 2.28 or newer is needed",
        ),
        (OLD.format(version="2.28.0"), "docker compose config: unknown flag: --environment"),
    ],
)
def test_an_old_compose_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    """An old Compose only says "unknown flag"; the error names its version."""
    settings = answered(tmp_path, script, monkeypatch)
    with pytest.raises(ConfigError) as raised:
        compose.render(settings, "blue")
    assert str(raised.value) == said


def test_a_variable_that_is_missing_is_told_with_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compose names the variable and the service, not the env file of the color in which it is missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yml").write_text("services: {api: {image: 'r/api:${IMAGE_TAG:?which release}'}}\n")
    (tmp_path / ".env.blue").write_text("# IMAGE_TAG=sha-1\n")
    table = {"project": "p", "colors": {"blue": {"env_file": tmp_path / ".env.blue"}}}
    settings = Settings.model_validate(table | {"compose_file": tmp_path / "c.yml"})
    with pytest.raises(
        ConfigError, match=r"^\S+/\.env\.blue: docker compose config: .* IMAGE_TAG is missing"
    ):
        compose.render(settings, "blue")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.28.0", (2, 28, 0)),
        ("v2.40.3-desktop.1", (2, 40, 3)),
        ("2.3.3+ds1-1", (2, 3, 3)),
        ("5.6.1", (5, 6, 1)),
        ("dev", ()),
    ],
)
def test_reads_a_version(text: str, expected: tuple[int, ...]) -> None:
    """Suffixes of distributions are ignored."""
    assert compose.parse_version(text) == expected


def rendered(services: dict[str, Any]) -> Rendered:
    """A rendered configuration with these services."""
    return Rendered("blue", "p_blue", json.dumps(services), {"services": services}, {})


@pytest.mark.parametrize(
    ("ports", "expected", "first", "inner"),
    [
        ([], [], 0, 0),
        ([{"target": 80}], [], 0, 0),
        ([{"target": 80, "published": "8001", "host_ip": "127.0.0.1"}], [("127.0.0.1", 8001)], 8001, 80),
        (
            [{"target": 80, "published": "8001"}, {"target": 81, "published": "8002", "protocol": "tcp"}],
            [("", 8001), ("", 8002)],
            8001,
            80,
        ),
        ([{"target": 53, "published": "53", "protocol": "udp"}], [], 0, 0),
        (
            [{"target": 53, "published": "53", "protocol": "udp"}, {"target": 80, "published": "8001"}],
            [("", 8001)],
            8001,
            80,
        ),
    ],
)
def test_knows_each_published_port(
    ports: list[dict[str, Any]], expected: list[tuple[str, int]], first: int, inner: int
) -> None:
    """All published TCP ports are returned; the first one is the port of the target."""
    release = rendered({"api": {"image": "r/api:sha-1", "ports": ports}})
    assert (release.published("api"), release.port("api")) == (expected, first)
    assert release.inner_port("api") == inner


def waits(*names: str, **more: str) -> dict[str, Any]:
    """A service that waits for *names* to complete, and for the others of its own condition."""
    rows = dict.fromkeys(names, COMPLETED) | more
    return {"depends_on": {name: {"condition": how} for name, how in rows.items()}}


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ({"api": {}}, []),
        ({"api": waits("seed"), "seed": waits("migrate", db="service_healthy"), "migrate": {}}, ["migrate", "seed"]),
        ({"api": waits("seed", "migrate"), "seed": waits("migrate"), "migrate": {}}, ["migrate", "seed"]),
        ({"api": waits(db="service_healthy"), "db": waits("init"), "init": {}}, []),  # db is not started by a release
        ({"api": waits("worker"), "worker": waits("chown")}, ["chown"]),  # worker is released with it
        ({"api": {"depends_on": {"seed": {"condition": COMPLETED, "required": False}}}}, []),
    ],
)  # fmt: skip
def test_one_shot_services_come_in_the_order_of_compose(
    services: dict[str, Any], expected: list[str]
) -> None:
    """What a released service waits for to complete runs before it, and what that waits for still earlier."""
    assert rendered(services).one_shots(("api", "worker")) == expected


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({}, ["seed"]),
        ({"migrate": {"command": ["up"], "service": "tools"}}, ["tools", "seed"]),
        ({"migrate": {"command": ["up"], "service": "seed"}}, ["seed"]),
        ({"migrate": {"command": ["up"]}, "snapshot": {"enabled": True}}, ["api", "seed"]),
        ({"migrate": {"command": ["up"], "service": "tools"}, "snapshot": {"enabled": True}}, ["tools", "api", "seed"]),
        ({"snapshot": {"enabled": True}}, ["seed"]),
    ],
)  # fmt: skip
def test_services_that_run_in_one_off_containers(tables: dict[str, Any], expected: list[str]) -> None:
    """The migration, with a rehearsal also the live release on the copy, and the one-shot services."""
    settings = Settings.model_validate({"project": "p", "colors": {"blue": {"env_file": "/b"}}} | tables)
    services = {"api": waits("seed"), "seed": {}, "tools": {}}
    assert compose.one_off_services(settings, rendered(services)) == expected


def test_a_one_off_container_of_a_stack_has_files_for_its_secrets(tmp_path: Path) -> None:
    """Compose reads a secret as its owner only, a task as every user: the file is one of ours."""
    (tmp_path / "key").write_text("s3cret")
    api = {
        "image": "r/api:sha-1",
        "secrets": [{"source": "key", "target": "/run/secrets/key", "mode": "0400"}],
    }
    model = {"services": {"api": api, "db": {}}, "secrets": {"key": {"file": str(tmp_path / "key")}}}
    stack = Rendered("blue", "p_blue", "", model, {}, {"api": "hash"})
    (content,) = compose.one_off_contents(stack, ["api"])
    made = compose.one_off_model(stack, ["api"], tmp_path / "one-off")
    assert made["secrets"] == {"key": {"file": str(tmp_path / "one-off" / content.name)}}
    assert made["services"]["api"]["secrets"] == [{"source": "key", "target": "/run/secrets/key"}]
    assert list(made["services"]) == ["api"]
    plain = Rendered("blue", "p_blue", "", model, {})
    assert compose.one_off_contents(plain, ["api"]) == ()
    assert compose.one_off_model(plain, ["api"], tmp_path)["secrets"] == model["secrets"]


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ({"web": {}}, "services names 'api', the compose file of blue has web"),
        ({}, "services names 'api', the compose file of blue has no service at all"),
        ({"api": {"build": "."}}, "service 'api' names no image: a release is an image with a tag"),
    ],
)
def test_a_service_without_an_image_is_told(services: dict[str, Any], said: str) -> None:
    """Each of `services` must be in the Compose file and have an image."""
    with pytest.raises(ConfigError) as raised:
        rendered(services).image("api")
    assert str(raised.value) == said


def project(folder: Path, compose_file: str, env_file: bytes, more: str = "") -> Settings:
    """The settings of a project of one color in *folder*."""
    (folder / "docker-compose.yml").write_text(compose_file)
    (folder / ".env.blue").write_bytes(env_file)
    (folder / "cutover.toml").write_text(f'project = "p"\n{more}colors.blue = {{ env_file = ".env.blue" }}\n')
    return load_config(folder / "cutover.toml")


WITH_ENV_FILE = """
services:
  api: {image: "app:${IMAGE_TAG:?}", env_file: [.env.blue], environment: {DSN: "${DSN}"}}
  worker: {image: "app:${IMAGE_TAG:?}", env_file: [common.env]}
  db: {image: "postgres:15"}
"""


def test_no_container_gets_the_tag_of_another_release(tmp_path: Path) -> None:
    """The env file that holds the tag may be the `env_file:` of a service; what refers to the tag follows it too."""
    env_file = b"IMAGE_TAG=sha-1\nRELEASE=app-${IMAGE_TAG}\nDSN='a$$b'\n"
    (tmp_path / "common.env").write_text("IMAGE_TAG=sha-0\n")
    settings = project(tmp_path, WITH_ENV_FILE, env_file)
    for tag in ("sha-1", "sha-2"):
        rendered = compose.render(settings, "blue", tag)
        expected = {"IMAGE_TAG": tag, "RELEASE": f"app-{tag}", "DSN": "a$$b"}
        assert rendered.environment("api") == expected
        assert rendered.environment("worker") == {"IMAGE_TAG": tag}
        assert json.loads(rendered.text) == rendered.model
        assert {key: rendered.variables[key] for key in expected} == expected
    assert compose.render(settings, "blue").environment("worker") == {"IMAGE_TAG": "sha-1"}


def test_a_value_of_several_lines_is_one_variable(tmp_path: Path) -> None:
    """A line of a value is not a variable, though it looks like one."""
    text = b"IMAGE_TAG=sha-1\nCERT='a\nIMAGE_TAG=x\n'\n"
    settings = project(tmp_path, "services: {api: {image: 'app:${IMAGE_TAG:?}'}}", text)
    assert compose.render(settings, "blue").variables == {"IMAGE_TAG": "sha-1", "CERT": "a\nIMAGE_TAG=x\n"}


@pytest.mark.parametrize(
    ("compose_file", "env_file", "said"),
    [
        ("services: {api: {image: 'app:1', profiles: [prod, qa]}}", b"A=1\n",
         "has profiles prod, qa, and none of them is active: COMPOSE_PROFILES=prod"),
        ("services: {web: {image: 'app:1'}, api: {image: 'app:1', profiles: [prod]}}", b"COMPOSE_PROFILES=qa\n", "has profiles prod"),
        ("services: {web: {image: 'app:1'}}", b"A=1\n", "services names 'api', the compose file of blue has web"),
        ("services: {api: {image: 'app:1'}}", b"A=1\nB=caf\xe9\n", ".env.blue: line 2: byte 0xe9 is not UTF-8"),
        ("services: {api: {image: 'app:1', env_file: [more.env]}}", b"A=1\n", "service 'api': NAME has a byte that is not UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_rendered_is_told(
    tmp_path: Path, compose_file: str, env_file: bytes, said: str
) -> None:
    """One line that names the profile, the service, or the line of the file."""
    (tmp_path / "more.env").write_bytes(b"NAME=caf\xe9\n")
    settings = project(tmp_path, compose_file, env_file, 'services = ["api"]\n')
    with pytest.raises(ConfigError) as raised:
        compose.render(settings, "blue").service("api")
    assert said in str(raised.value)


OVERRIDE = """
services: {api: {image: "app:${IMAGE_TAG:?}", env_file: [more.env]}}
"""


def test_further_files_are_merged(tmp_path: Path) -> None:
    """`compose_overrides` are merged in their order, as `docker compose --file A --file B` does."""
    (tmp_path / "base.yml").write_text("services: {api: {image: 'app:0', command: serve}}\n")
    (tmp_path / "prod.yml").write_text(OVERRIDE)
    (tmp_path / "more.env").write_text("TOKEN_COUNT=3\n")
    (tmp_path / "cutover.toml").write_text(
        'project = "p"\ncompose_file = "base.yml"\ncompose_overrides = ["prod.yml"]\n'
        'colors.blue = { env_file = ".env.blue" }\n'
    )
    (tmp_path / ".env.blue").write_text("IMAGE_TAG=sha-1\n")
    settings = load_config(tmp_path / "cutover.toml")
    rendered = compose.render(settings, "blue", "sha-2")
    assert (rendered.image("api"), rendered.service("api")["command"]) == ("app:sha-2", ["serve"])
    assert rendered.environment("api") == {"TOKEN_COUNT": "3"}
    raw = compose.read_source(settings, "blue")["services"]["api"]
    assert raw["image"] == "app:${IMAGE_TAG:?}"
    (tmp_path / "prod.yml").unlink()
    with pytest.raises(ConfigError, match=r"prod\.yml: no such file \(compose_overrides in "):
        compose.render(settings, "blue")


@pytest.mark.parametrize(
    ("service", "known"),
    [
        ({}, True),
        ({"network_mode": "host", "pid": "host", "ipc": "shareable"}, True),
        ({"network_mode": "service:api"}, False),
        ({"pid": "service:api"}, False),
        ({"ipc": "container:other"}, False),
        ({"volumes_from": ["api"]}, False),
    ],
)
def test_a_hash_that_contains_another_container_is_not_compared(
    service: dict[str, object], known: bool
) -> None:
    """Compose fills in the container's id before it hashes: the image ID decides there."""
    assert has_known_hash(service) is known

"""`cutover doctor`: findings, their exit code, and what cannot be read; the engine is replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from cutover.cli import doctor
from cutover.cli.doctor import as_lines, doctor_command, engine_findings, state_findings
from cutover.core.config import load_config
from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.core.verdict import Finding, no, yes
from cutover.release import deploy_checks, preflight
from cutover.system import compose, docker, process
from tests.helpers.containers import container

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COMPOSE = """
services:
  web:
    image: shop:${IMAGE_TAG:?}
    ports: ["127.0.0.1:${WEB_PORT:?}:80"]
    user: "1000"
    healthcheck: {test: ["CMD", "ask", "http://127.0.0.1/ready"]}
"""
TOML = """
project = "shop"
compose_file = "compose.yml"
services = ["web"]
env_keys = { port = "WEB_PORT" }
state_dir = "state"
colors.blue = { env_file = ".env.blue" }
"""


class Api:
    """An engine that answers with its version."""

    def version(self) -> dict[str, str]:
        """The architecture of the engine."""
        return {"Arch": "amd64"}


class Client:
    """The SDK client of that engine."""

    api = Api()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without findings, as current directory, and an engine with nothing on it."""
    here = tmp_path / "shop"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in (
        "COMPOSE_FILE",
        "CUTOVER_CONFIG",
        "CUTOVER_STATE_DIR",
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "IMAGE_TAG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(docker, "client", Client)
    monkeypatch.setattr(docker, "inspect_image", lambda _: None)
    monkeypatch.setattr(docker, "containers", lambda *_: [])
    monkeypatch.setattr(docker, "the_container", lambda *_: None)
    monkeypatch.setattr(docker, "published_by", lambda _: [])
    monkeypatch.setattr(preflight, "environment_verdicts", lambda *_, **__: [yes("disk", "half is free")])
    monkeypatch.setattr(deploy_checks, "can_bind", lambda *_: True)
    (here / "compose.yml").write_text(COMPOSE)
    (here / "cutover.toml").write_text(TOML)
    write_env(here / ".env.blue", "IMAGE_TAG=sha-1\nWEB_PORT=8000\n")
    return here


def write_env(path: Path, text: str) -> None:
    """Write an env file that only its owner can read."""
    path.write_text(text)
    path.chmod(0o600)


def diagnose(*words: str) -> tuple[int, list[str], str]:
    """Exit code, findings, and why not all could be examined."""
    done = CliRunner().invoke(doctor_command, [*words, "--json"], standalone_mode=False)
    assert done.exception is None, done.exception
    facts = json.loads(done.output)
    lines = [": ".join((each["where"], each["what"], each["todo"])) for each in facts["findings"]]
    assert facts["ok"] is (done.return_value == 0)
    return done.return_value, lines, facts["problem"] or ""


def test_nothing_is_found_in_a_good_project(folder: Path) -> None:
    """Exit 0, and nothing is written."""
    before = sorted(folder.rglob("*"))
    assert diagnose() == (0, [], "")
    assert sorted(folder.rglob("*")) == before


def break_env(folder: Path) -> None:
    """The env file is missing."""
    (folder / ".env.blue").unlink()


def break_tag(folder: Path) -> None:
    """The tag is written out."""
    (folder / "compose.yml").write_text(COMPOSE.replace("${IMAGE_TAG:?}", "2.8"))


def break_many(folder: Path) -> None:
    """Five faults at once."""
    text = COMPOSE.replace('user: "1000"', "user: root").replace("127.0.0.1/", "localhost/")
    (folder / "compose.yml").write_text(
        text + "    logging: {driver: none}\n    depends_on: [db]\n  db: {image: postgres:15}\n"
    )
    (folder / ".env.blue").chmod(0o644)


def break_color(folder: Path) -> None:
    """Both colors have one port."""
    (folder / "cutover.toml").write_text(TOML + 'colors.green = { env_file = ".env.green" }\n')
    write_env(folder / ".env.green", "IMAGE_TAG=sha-1\nWEB_PORT=8000\n")


def break_proxy(folder: Path) -> None:
    """The switch command is not installed."""
    proxy = 'proxy = { driver = "command", url = "http://127.0.0.1:1", switch = ["/none/switch.sh", "{color}"], status = ["/none/switch.sh"] }'
    (folder / "cutover.toml").write_text(TOML + proxy + "\n")


def break_state(folder: Path) -> None:
    """The state directory is a file."""
    (folder / "state").write_text("")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (break_env, [".env.blue: no such file"]),
        (break_tag, ["compose.yml: services.web: the tag of shop:2.8 is written out" , ""]),
        (break_many, [".env.blue: mode 0644", "asks localhost", "runs as root", "logging: none", "depends on db"]),
        (break_color, ["WEB_PORT is the same as blue's", "publish port 8000", "publish port 8000"]),
        (break_proxy, ["cutover.toml: [proxy] switch: no such command: /none/switch.sh: install it"]),
    ],
)  # fmt: skip
def test_finds_everything_at_once(folder: Path, change: Callable[[Path], None], expected: list[str]) -> None:
    """Exit 1 and one line for each finding, with its way out."""
    change(folder)
    code, lines, problem = diagnose()
    assert (code, problem) == (1, "")
    missing = [part for part in expected if not any(part in line for line in lines)]
    assert missing == [], lines


def test_a_configuration_that_cannot_be_read_is_4(folder: Path) -> None:
    """A state directory that is a file is refused when the configuration is read."""
    break_state(folder)
    code, _, problem = diagnose()
    assert code == 4
    assert "state is a file, and a folder is needed" in problem


def test_examines_a_compose_file_before_anything_is_configured(folder: Path) -> None:
    """`cutover init` is named first, then what the compose file needs, for one color and for two."""
    (folder / "cutover.toml").unlink()
    (folder / "compose.yml").write_text(
        "services: {web: {image: 'shop:1', container_name: shop, ports: ['8000:80']}}"
    )
    code, lines, _ = diagnose()
    assert code == 1
    assert lines[0].endswith("cutover init writes it")
    assert lines[1].startswith("compose.yml: services.web: the tag of shop:1 is written out")
    assert [line.split(": ")[2] for line in lines[2:]] == [
        "container_name shop",
        "both colors would publish port 8000 (for blue and green only)",
    ]


@pytest.mark.parametrize(
    ("files", "words", "problem"),
    [
        ({"cutover.toml": "project = "}, (), "not valid TOML"),
        ({"cutover.toml": TOML.replace("services", "service")}, (), "unknown key 'service'"),
        ({}, ("--cutover-config", "x.toml"), "x.toml: no such file"),
        ({"cutover.toml": None, "compose.yml": None}, (), "no compose file"),
        ({"cutover.toml": None, "compose.yml": "services: ["}, (), "docker compose config"),
        ({"cutover.toml": None}, ("--file", "y.yml"), "y.yml: no such file"),
        ({"compose.yml": None}, (), "compose.yml: no such file"),
    ],
)
def test_what_cannot_be_read_is_the_last_line(folder: Path, files: Mapping[str, str | None], words: tuple[str, ...], problem: str) -> None:  # fmt: skip
    """Exit 4, after what was found so far."""
    for name, text in files.items():
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text)
    code, _, said = diagnose(*words)
    assert (code, problem in said) == (4, True), said


def raising(error: Exception) -> Callable[..., Any]:
    """A function that raises *error*."""

    def function(*_: object) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    ("place", "value", "environment", "expected"),
    [
        ((process, "FIXED_PATH"), "/nowhere", {}, ["docker: the command is not in /nowhere: install the Docker CLI there"]),
        ((docker, "client"), raising(EngineUnavailable("the engine at x does not answer: permission denied")), {}, ["engine: the engine at x does not answer: permission denied: start it (systemctl start docker), and let this user open its socket (group docker)"]),
        ((compose, "require_compose"), raising(ConfigError("docker compose is 2.3: too old, 2.28 or newer is needed")), {}, ["docker compose: docker compose is 2.3: too old, 2.28 or newer is needed: install the Compose plugin, or docker context use default"]),
        ((process, "docker_host"), raising(ConfigError("docker context 'x' cannot be read: none")), {}, ["docker: docker context 'x' cannot be read: none: docker context use default"]),
        ((process, "docker_host"), lambda: "", {"DOCKER_HOST": "a", "DOCKER_CONTEXT": "b"}, ["DOCKER_CONTEXT: has no effect, because DOCKER_HOST is set: unset one of them"]),
    ],
)  # fmt: skip
def test_the_host_is_examined_first(folder: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[object, str], value: object, environment: dict[str, str], expected: list[str]) -> None:  # fmt: skip
    """Command, Compose, context and engine, each with the way out."""
    monkeypatch.setattr(*place, value)
    assert [str(each) for each in engine_findings(environment)] == expected


def test_a_color_that_cannot_be_rendered_is_a_finding(folder: Path) -> None:
    """Compose's own words, once; the files can be read, so it is no exit 4."""
    write_env(folder / ".env.blue", "IMAGE_TAG=sha-1\n")
    code, lines, problem = diagnose()
    assert (code, problem) == (1, "")
    assert len(lines) == 1
    assert "WEB_PORT" in lines[0]


@pytest.mark.parametrize(
    ("changed", "host", "number"),
    [(False, {"AutoRemove": True}, 0), (True, {}, 0), (True, {"AutoRemove": True}, 1)],
)
def test_what_runs_can_be_put_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changed: bool, host: dict[str, bool], number: int
) -> None:
    """A container can be put back as it is, unless no compose file says all of it; the command that mends it is said."""
    rendered = compose.render(load_config(folder / "cutover.toml"), "blue")
    own = compose.config_hashes(compose.Compose("shop_blue", Path("-")), rendered.text)["web"]
    running = replace(container(), image_name="shop:sha-1", config_hash="other" if changed else own)
    attributes = {"Id": running.id, "Name": "/shop_blue-web-1", "Config": {}, "HostConfig": host}
    monkeypatch.setattr(docker, "the_container", lambda *_: running)
    monkeypatch.setattr(docker, "replicas", lambda *_: [running])
    monkeypatch.setattr(docker, "attributes", lambda _: attributes)
    monkeypatch.setattr(docker, "inspect_image", lambda _: {"Id": running.image})
    code, lines, _ = diagnose()
    assert (code, len(lines)) == (number, number)
    assert all("started from a configuration that is no longer here" in line for line in lines)
    assert all(line.endswith("up --detach --no-deps web") for line in lines)


def test_ports_and_surroundings_are_findings(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port of another process, and what the watch would revert any release for."""
    monkeypatch.setattr(deploy_checks, "can_bind", lambda *_: False)
    monkeypatch.setattr(preflight, "environment_verdicts", lambda *_, **__: [no("disk", "2 % are free")])
    assert diagnose()[:2] == (1, [
        ".env.blue: port 8000 of blue is taken by another process on this host: another WEB_PORT, or stop what has it",
        'disk: 2 % are free: mend it, or report_only = ["disk"] in [checks]',
    ])  # fmt: skip


def test_a_silent_engine_hides_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an engine the files are examined all the same."""
    for name in ("client", "inspect_image", "containers", "the_container", "published_by"):
        monkeypatch.setattr(docker, name, raising(EngineUnavailable("the engine does not answer")))
    break_tag(folder)
    code, lines, _ = diagnose()
    assert code == 1
    assert [line.split(":")[0] for line in lines] == ["engine", "compose.yml"]


def test_an_open_release_is_a_finding(folder: Path) -> None:
    """What a dead session left is reverted by `cutover recover`."""
    state = folder / "state"
    state.mkdir(mode=0o700)
    (state / "open").write_text("r-1\n")
    found = [str(each) for each in state_findings(load_config(folder / "cutover.toml"))]
    assert len(found) == 1
    assert found[0].endswith("of a session that died is open: cutover recover")


def test_ends_with_the_number_of_findings() -> None:
    """The last line is the answer."""
    finding = Finding("f", "x", "y")
    assert as_lines([], "") == ["nothing to correct"]
    assert as_lines([finding], "") == ["f: x: y", "1 thing to correct"]
    assert as_lines([finding] * 2, "") == ["f: x: y"] * 2 + ["2 things to correct"]
    assert as_lines([finding], "no file") == ["f: x: y", "cutover: no file"]
    assert doctor.PROBE_TAG not in str(as_lines([finding], ""))

"""What forbids a release before anything is changed."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cutover.core.config import Settings, load_config, url_config
from cutover.core.errors import ConfigError
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.proxy.base import Live
from cutover.release.colors import Colors
from cutover.release.deploy_checks import can_bind, compose_problems, create_network, whose
from cutover.release.preflight import recovers_at_boot, require_fit
from cutover.release.prune import pin_image
from cutover.system import docker, process
from cutover.system.compose import Rendered, render
from cutover.system.container import Container
from cutover.system.process import CompletedCommand
from tests.helpers.inspected import container

GOOD = [yes("disk", "half is free"), not_asked("tls", "no https"), yes("alerts", "2 rules loaded")]


def test_says_what_is_around_the_release() -> None:
    """One line of all that was asked."""
    assert require_fit(GOOD, ()) == "disk: half is free; alerts: 2 rules loaded"


@pytest.mark.parametrize(
    "bad",
    [
        no("tls", "expected at least 14 days left, got 13 days left"),
        unknown("tls", "no certificate is shown"),
    ],
)
def test_refuses_what_the_watch_would_revert_for(bad: Verdict) -> None:
    """What no release can help is told before it begins, and not after the switch; what only reports never decides."""
    with pytest.raises(ConfigError) as raised:
        require_fit([*GOOD, bad], ())
    assert f"tls: {bad.reason}" in str(raised.value)
    assert 'report_only = ["tls"]' in str(raised.value)
    assert f"tls: {bad.reason}" in require_fit([*GOOD, bad], ("disk", "tls"))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", ""])
def test_a_port_that_somebody_listens_on_is_taken(address: str) -> None:
    """On the address itself, or on all of them."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        assert not can_bind(port, address)
    assert can_bind(port, address)


@pytest.mark.parametrize("taken", ["::1", "::"])
def test_a_port_of_ipv6_is_taken_too(taken: str) -> None:
    """A service that publishes on all addresses needs the port on both families."""
    with socket.create_server((taken, 0), family=socket.AF_INET6) as held:
        port = held.getsockname()[1]
        assert not can_bind(port, "")
        assert can_bind(port, "127.0.0.1")


def test_what_we_may_not_bind_is_not_taken() -> None:
    """An address of another host, or a port for root only, is the engine's business."""
    assert can_bind(8123, "192.0.2.1")


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("cutover-recover.service", "ExecStart=/srv/recall/.venv/bin/cutover recover\n", True),
        ("root", "@reboot cd /srv/recall && .venv/bin/cutover recover\n", True),
        ("other.service", "ExecStart=/usr/bin/true\n", False),
        (None, "", False),
    ],
)
def test_a_unit_or_a_crontab_is_found(tmp_path: Path, name: str | None, text: str, found: bool) -> None:
    """The shipped unit or an @reboot line, whatever the file is called."""
    if name:
        (tmp_path / name).write_text(text)
    assert recovers_at_boot((str(tmp_path), str(tmp_path / "none"))) is found


def answering(monkeypatch: pytest.MonkeyPatch, codes: Mapping[str, int]) -> list[tuple[str, ...]]:
    """Let `docker A B ...` end with codes["A B"], else 0; the commands that were run."""
    ran: list[tuple[str, ...]] = []

    def run(argv: tuple[str, ...], *, deadline_s: float) -> CompletedCommand:
        assert deadline_s > 0
        ran.append(argv)
        code = codes.get(" ".join(argv[1:3]), codes.get(argv[1], 0))
        return CompletedCommand(argv, code, "", "no space left on device" if code else "")

    monkeypatch.setattr(process, "run", run)
    return ran


IMAGE = "sha256:4f1c2aa09d310000"


@pytest.mark.parametrize(
    ("codes", "refused"),
    [
        ({}, None),
        ({"network inspect": 1}, None),
        (
            {"network inspect": 1, "network create": 1},
            "the network recall .* cannot be created: no space left",
        ),
        ({"create": 1}, None),  # the name is taken: pinned before
        ({"create": 1, "container inspect": 1}, "the image 4f1c2aa09d31 cannot be pinned .*: no space left"),
    ],
)
def test_a_network_or_a_pin_that_fails_refuses_the_release(
    monkeypatch: pytest.MonkeyPatch, codes: dict[str, int], refused: str | None
) -> None:
    """Without them the new release cannot run, or the old one cannot be restored: exit code 4, nothing is changed."""
    answering(monkeypatch, codes)
    with pytest.raises(ConfigError, match=refused) if refused else nullcontext():
        create_network(url_config().model_copy(update={"shared_network": "recall"}))
        pin_image("recall", IMAGE)


def test_a_pinned_image_has_a_container_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The container is named after project and image, and never started."""
    ran = answering(monkeypatch, {})
    pin_image("recall", IMAGE)
    assert ran == [
        ("docker", "create", "--name", "cutover-keep-recall-4f1c2aa09d31", "--label", "cutover.keep=recall",
         "--entrypoint", "true", IMAGE)
    ]  # fmt: skip


BOTH_COLORS = """
services:
  api:
    image: shop:{tag}
    ports: ["127.0.0.1:${{API_HTTP_PORT:?}}:80"]
    volumes: [data:/data]
    {line}
volumes: {{data: {{{volume}}}}}
"""


@pytest.mark.parametrize(
    ("line", "volume", "live", "expected"),
    [
        ("init: true", "name: shop_data", "blue", ""),
        ("container_name: shop", "name: shop_data", "blue", "container_name shop: both colors cannot have it: remove"),
        ("container_name: shop", "name: shop_data", "green", ""),  # in place: one color has it
        ("container_name: shop", "name: shop_data", None, ""),
        ("init: true", "", "blue", "volume data (/data) belongs to one color"),
        ("init: true", "", "green", ""),
        ("deploy: {replicas: 2}", "name: shop_data", "green", "2 replicas cannot all publish port 8001"),
        ("#2.8.1", "name: shop_data", "blue", "the tag of shop:2.8.1 is written out, so no release can choose it: image: shop:${IMAGE_TAG:?}"),
        ("#${TAG:-latest}", "name: shop_data", "blue", 'TAG chooses the tag of shop:${TAG:-latest}, not IMAGE_TAG: tag = "TAG" in [env_keys]'),
    ],
)  # fmt: skip
def test_refuses_a_compose_file_that_would_fail_later(
    tmp_path: Path, line: str, volume: str, live: str | None, expected: str
) -> None:
    """Before anything changes, with the line to change; what matters to two colors only is refused beside a live one."""
    tag = line[1:] if line.startswith("#") else "${IMAGE_TAG:?}"
    (tmp_path / "compose.yml").write_text(BOTH_COLORS.format(tag=tag, line=line, volume=volume))
    (tmp_path / "cutover.toml").write_text(
        'project = "shop"\ncompose_file = "compose.yml"\nstate_dir = "state"\n'
        'colors.blue = { env_file = ".env.blue" }\ncolors.green = { env_file = ".env.green" }\n'
    )
    for color, port in (("blue", 8000), ("green", 8001)):
        (tmp_path / f".env.{color}").write_text(f"IMAGE_TAG=sha-1\nAPI_HTTP_PORT={port}\n")
        (tmp_path / f".env.{color}").chmod(0o600)
    settings = load_config(tmp_path / "cutover.toml")
    rendered = {color: render(settings, color, "sha-2") for color in settings.colors}
    colors = Colors(settings, rendered, None, Live(live, ""))
    found = list(compose_problems(colors, rendered["green"]))
    assert (len(found), expected in "".join(found)) == (bool(expected), True), found


TAKER = '[colors.blue] project = "old" in cutover.toml takes it over'


@pytest.mark.parametrize(
    ("project", "service", "place", "takes_over"),
    [
        ("old", "web", {"project.working_dir": "{here}"}, True),
        ("old", "web", {"project.config_files": "{here}/compose.yml,/else.yml"}, True),
        ("old", "web", {"project.working_dir": "/else", "project.config_files": "/else/compose.yml"}, False),
        ("old", "db", {"project.working_dir": "{here}"}, False),
        ("shop_green", "web", {"project.working_dir": "{here}"}, False),
        ("", "web", {}, False),
    ],
)
def test_says_how_a_running_service_is_taken_over(  # the columns of the table
    tmp_path: Path, project: str, service: str, place: dict[str, str], takes_over: bool
) -> None:
    """The same service of the same compose file under another project name is named with the line to write."""
    labels = {"project": project, "service": service} | {
        key: value.format(here=tmp_path) for key, value in place.items()
    }
    stranger = replace(
        container(), labels={f"com.docker.compose.{key}": each for key, each in labels.items()}
    )
    settings = Settings.model_validate({
        "project": "shop", "compose_file": tmp_path / "compose.yml", "services": ["web"],
        "colors": {each: {"env_file": tmp_path / f".env.{each}"} for each in ("blue", "green")},
    })  # fmt: skip
    said = whose(settings, Rendered("blue", "shop_blue", "", {}, {}), stranger)
    assert said.startswith(f"the container {stranger.name} (project {project or 'none'})")
    assert said.endswith(TAKER) == takes_over


ON_A_NETWORK = """
services:
  api: {image: "shop:${IMAGE_TAG:?}", depends_on: {db: {condition: service_healthy}}, networks: [shared]}
  db: {image: "postgres:15", networks: [shared]}
networks: {shared: {name: shop, external: true}}
"""


@pytest.mark.parametrize(
    ("own", "beside", "expected"),
    [
        ([], [], "services.api: depends on db, which does not run in the project shop_blue: docker compose"),
        (["db"], [], ""),
        ([], ["db"], ""),  # of another project, on the network of both
        ([], ["cache"], "depends on db, which does not run in the project shop_blue"),
    ],
)
def test_a_dependency_that_does_not_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: list[str], beside: list[str], expected: str
) -> None:
    """Before anything changes, by its name; it may run in the project, or beside it on a network of the service."""
    (tmp_path / "docker-compose.yml").write_text(ON_A_NETWORK)
    (tmp_path / ".env.blue").write_text("IMAGE_TAG=sha-1\n")
    (tmp_path / "cutover.toml").write_text('project = "shop"\ncolors.blue = { env_file = ".env.blue" }\n')
    settings = load_config(tmp_path / "cutover.toml")
    there = {"shop_blue": own, "shop": beside}

    def running(name: str) -> list[Container]:
        return [
            replace(container(), labels={"com.docker.compose.service": each}, name=each)
            for each in there[name]
        ]

    monkeypatch.setattr(docker, "containers", running)
    monkeypatch.setattr(docker, "joined", running)
    rendered = render(settings, "blue", "sha-2")
    found = list(compose_problems(Colors(settings, {}, None, Live(None, "")), rendered))
    assert (len(found), expected in "".join(found)) == (bool(expected), True), found

"""What a driver says of its switch, which decides the order of a release without its name being asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cutover.core.change import Argv
from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.target import ReleaseRequest, Target
from cutover.core.verdict import yes
from cutover.proxy.base import Live, Proxy, driver
from cutover.release import switch
from cutover.release.colors import BeforeRelease, Colors, Situation
from cutover.release.transaction import Reporter
from cutover.system.container import Container
from cutover.system.process import CompletedCommand
from tests.helpers.containers import UNHEALTHY, container
from tests.helpers.proxy_drivers import proxy_settings

PORTS = {"blue": 8000, "green": 8001}
URL = "http://127.0.0.1:1"
RUNNING = [
    {"driver": "nginx", "url": URL},
    {"driver": "traefik", "url": URL, "dynamic_file": "/f.yml"},
    {"driver": "command", "url": URL, "switch": ["true", "{color}"]},
]


def made(**proxy: object) -> Proxy:
    """The driver of this `[proxy]`."""
    found = driver(proxy_settings(**proxy), PORTS)
    assert found is not None
    return found


@pytest.mark.parametrize("proxy", RUNNING, ids=lambda proxy: proxy["driver"])
def test_a_running_proxy_changes_no_port(proxy: dict[str, object]) -> None:
    """Users wait for nothing, both colors keep their ports, and no env file is written."""
    one = made(**proxy)
    assert (one.has_gap, one.keeps_old_color) == (False, True)
    assert [one.own_port(color, "blue") for color in PORTS] == [None, None]
    assert one.on_commit("green", PORTS) == {}


def test_a_port_swap_moves_the_users_port() -> None:
    """The live color has it, whichever that is; the commit swaps the ports, once."""
    one = made(driver="port-swap", url="http://127.0.0.1:8000")
    assert (one.has_gap, one.keeps_old_color) == (True, False)
    assert [one.own_port(color, "green") for color in PORTS] == [None, 8000]
    assert one.own_port("blue", None) is None
    assert one.on_commit("green", PORTS) == {"green": 8000, "blue": 8001}
    assert one.on_commit("blue", PORTS) == {}


@pytest.mark.parametrize(
    ("status", "after", "said"),
    [
        ("running", "exited", "blue is stopped"),
        ("restarting", "exited", "blue is stopped"),
        ("paused", "exited", "blue is stopped"),
        ("restarting", "restarting", "blue could not be stopped: it still restarts"),
        ("running", "running", "blue could not be stopped: it still runs"),
        ("exited", "exited", "blue is stopped"),
    ],
)
def test_a_color_is_stopped_unless_it_is_already(
    monkeypatch: pytest.MonkeyPatch, status: str, after: str, said: str
) -> None:
    """A container between two crashes does not run at the moment in which it is asked, and runs again a moment later."""
    settings, stopped = proxy_settings(driver="nginx", url=URL), list[Argv]()

    def there(_project: str) -> list[Container]:
        found = container(Status=after if stopped else status)
        labels = {"com.docker.compose.service": settings.service}
        return [replace(found, stop_timeout=0, labels=labels)]

    def stop(argv: Argv, **_: object) -> CompletedCommand:
        stopped.append(argv)
        return CompletedCommand(argv, 0, "", "")

    monkeypatch.setattr("cutover.system.docker.containers", there)
    monkeypatch.setattr("cutover.system.process.run", stop)
    assert switch.stop_color(settings, "blue").reason == said
    assert len(stopped) == (status != "exited")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (container(), "kept warm; roll back with: cutover rollback"),
        (container(Health=UNHEALTHY), "not warm any more (unhealthy); see `cutover status`"),
        (container(Status="exited"), "not warm any more (exited); see `cutover status`"),
        (None, "not warm any more (nothing runs); see `cutover status`"),
        (EngineUnavailable("x"), "its container could not be asked; see `cutover status`"),
    ],
)
def test_an_old_color_is_called_warm_only_if_it_is(
    monkeypatch: pytest.MonkeyPatch, found: Container | EngineUnavailable | None, said: str
) -> None:
    """It may have died during the watch."""

    def ask(*_: object) -> Container | None:
        if isinstance(found, EngineUnavailable):
            raise found
        return found

    monkeypatch.setattr("cutover.release.verify.main_container", ask)
    settings, evidence = proxy_settings(driver="nginx", url=URL), Evidence()
    colors = Colors(settings, {}, driver(settings, PORTS), Live("green", ""))
    target = Target("green", "color", URL, "green")
    here = Situation(settings, ReleaseRequest(("green",)), colors, target, BeforeRelease("blue", "sha-1"))
    switch.retire_old(here, Reporter(evidence))
    assert [each.text for each in evidence.steps] == [said]


def test_what_a_port_swap_has_stopped_is_not_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its requests had the grace period of the container; nobody waits for the budget of the drain."""
    settings = proxy_settings(driver="port-swap", url="http://127.0.0.1:8000")
    monkeypatch.setattr(switch, "stop_color", lambda *_: yes("stop", "blue is stopped"))
    monkeypatch.setattr("cutover.release.state.State.journal", lambda *_, **__: None)
    colors = Colors(settings, {}, driver(settings, PORTS), Live("blue", "for the port of blue"))
    done = switch.retire(colors, "blue")
    assert done.reason == "blue is stopped (no request in flight after 0.0 s)"

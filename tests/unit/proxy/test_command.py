"""A team's own words, the bare port, and how settings become a driver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.core.verdict import Outcome
from cutover.proxy.base import Live, ProxyClient, driver
from cutover.proxy.command import CommandProxy, judge_status
from cutover.proxy.port_swap import PortSwap, publish_on
from cutover.system.process import CompletedCommand
from tests.helpers.proxy_drivers import UNREACHABLE, answering, proxy_settings, raw_response

PORTS = {"blue": 8000, "green": 8001}


def test_fills_in_color_and_port() -> None:
    """Color and port of the one who gets the traffic; other braces are the command's own."""
    lb = CommandProxy(
        ("lb", "--to={color}:{port}", "{}", "{x}"), ("lb", "back", "{color}"), (), PORTS, UNREACHABLE
    )
    change = lb.switch("green")
    assert change.do == ("lb", "--to=green:8001", "{}", "{x}")
    assert change.undo == ("timeout -k 10 60 lb back blue",)


def test_the_way_back_is_the_way_there() -> None:
    """Without undo words the switch words lead back."""
    assert CommandProxy(("lb", "{color}"), (), (), PORTS, UNREACHABLE).switch("blue").undo == (
        "timeout -k 10 60 lb green",
    )


def said(out: str, code: int = 0, err: str = "") -> CompletedCommand:
    """What status words said."""
    return CompletedCommand(("lb", "status"), code, out, err)


@pytest.mark.parametrize(
    ("status", "live", "outcome", "reason"),
    [
        (said("blue\n"), "blue", Outcome.YES, "lb and the answer say blue"),
        (said("live color:\n blue "), "blue", Outcome.YES, "lb and the answer say blue"),
        (
            None,
            "blue",
            Outcome.UNKNOWN,
            "blue answers, and nothing else says so: [proxy] status, a command that prints it",
        ),
        (said("green"), "blue", Outcome.NO, "lb says green, but blue answers"),
        (said("red"), "blue", Outcome.UNKNOWN, "lb does not name a color: it says 'red'"),
        (said(""), "blue", Outcome.UNKNOWN, "lb does not name a color: it says ''"),
        (said("blue", 1, "no route"), "blue", Outcome.UNKNOWN, "lb does not name a color: no route"),
        # A dead color says nothing, and must be left: the proxy's word is all there is.
        (said("blue"), None, Outcome.YES, "lb says blue, which does not say so: silence"),
        (said("red"), None, Outcome.UNKNOWN, "silence"),
        (None, None, Outcome.UNKNOWN, "silence"),
    ],
)
def test_agrees(status: CompletedCommand | None, live: str | None, outcome: Outcome, reason: str) -> None:
    """The status words and the answer must name the same color."""
    verdict = judge_status(status, Live(live, "silence"))
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


@pytest.mark.parametrize(
    ("status", "live", "outcome"),
    [
        (("echo", "green"), "green", Outcome.YES),
        (("echo", "nobody"), None, Outcome.UNKNOWN),
        ((), None, Outcome.UNKNOWN),
    ],
)
def test_a_dead_color_is_named_by_the_status_words(
    status: tuple[str, ...], live: str | None, outcome: Outcome
) -> None:
    """Where nobody answers, the team's words say who is live, so that there is a way back from it."""
    lb = CommandProxy(("lb", "{color}"), (), status, PORTS, UNREACHABLE)
    assert lb.live().color == live
    assert "127.0.0.1:1/version gave no answer" in lb.live().how
    assert lb.agreed().outcome is outcome


@pytest.mark.parametrize(
    ("word", "outcome"), [("blue", Outcome.YES), ("green", Outcome.NO), ("", Outcome.UNKNOWN)]
)
def test_without_status_words_the_proxys_own_word_is_compared(word: str, outcome: Outcome) -> None:
    """The control location says whom the proxy chooses; with neither, nothing was compared, and that is no yes."""
    version, alive = (
        raw_response(200, b"", "X-Color: blue"),
        raw_response(200, b"", f"X-Cutover-Color: {word}"),
    )
    with answering(version=version, alive=alive) as port:
        way = ProxyClient(f"http://127.0.0.1:{port}", "/version", "/alive", "X-Color")
        assert CommandProxy(("lb", "{color}"), (), (), PORTS, way).agreed().outcome is outcome


@pytest.mark.parametrize(
    "proxy",
    [
        {"driver": "nginx", "url": "http://127.0.0.1:1"},
        {"driver": "traefik", "url": "http://127.0.0.1:1", "dynamic_file": "/f.yml"},
        {"driver": "command", "url": "http://127.0.0.1:1", "switch": ["true", "{color}"]},
        {"driver": "port-swap", "url": "http://127.0.0.1:1"},
    ],
    ids=lambda proxy: proxy["driver"],
)
def test_each_driver_is_found_by_its_name(proxy: dict[str, object]) -> None:
    """`[proxy] driver` names a file of the package, and its switch has a way back."""
    found = driver(proxy_settings(**proxy), PORTS)
    assert found is not None
    (made,) = found.drivers
    assert made.name == proxy["driver"]
    change = made.switch("green")
    assert change.do
    assert change.undo
    assert "blue → green" in change.text


@pytest.mark.parametrize(
    "proxy",
    [
        {"driver": "traefik"},
        {"driver": "command"},
        {"driver": "command", "switch": ["a"]},
        {"driver": "port-swap"},
        {"driver": "port-swap", "url": "http://example"},
    ],
)
def test_what_a_driver_needs_is_asked_for(proxy: dict[str, object]) -> None:
    """A driver without its file or words is a usage problem that names the key."""
    with pytest.raises(ConfigError, match="proxy"):
        driver(proxy_settings(**proxy), PORTS)


def test_a_command_is_found_wherever_it_is_run_from(tmp_path: Path) -> None:
    """A relative command is that beside cutover.toml, and one on the PATH is named whole: a revert runs in `/`."""
    script = tmp_path / "lb.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    words = {"switch": ["./lb.sh", "{color}"], "undo": ["sh", "./x"], "status": [str(script)]}
    given = proxy_settings(driver="command", url="http://127.0.0.1:1", **words)
    made = CommandProxy.of(given.model_copy(update={"source": tmp_path / "cutover.toml"}), PORTS)
    assert made.switch("green").do == (str(script), "green")
    assert Path(made.back[0]).is_absolute()
    assert made.back[1] == "./x"
    assert made.status == (str(script),)


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ({"switch": ["./lb.sh"]}, "[proxy] switch: no such command: {folder}/lb.sh"),
        ({"switch": ["no-such-lb"]}, "[proxy] switch: no such command: no-such-lb in /usr"),
        ({"switch": ["true"], "undo": ["no-such-lb"]}, "[proxy] undo: no such command"),
        ({"switch": ["true"], "status": ["/no/lb"]}, "[proxy] status: no such command: /no/lb"),
    ],
)
def test_a_command_that_is_not_there(words: dict[str, object], where: str, tmp_path: Path) -> None:
    """It is said at once, not by an exit 127 in the middle of a revert."""
    given = proxy_settings(driver="command", url="http://127.0.0.1:1", **words)
    with pytest.raises(ConfigError) as said:
        CommandProxy.of(given.model_copy(update={"source": tmp_path / "cutover.toml"}), PORTS)
    assert where.format(folder=tmp_path) in str(said.value)


def test_without_a_proxy_there_is_no_driver() -> None:
    """No `[proxy]`, no driver."""
    bare = Settings.model_validate({"project": "recall", "colors": {"blue": {"env_file": "/b"}}})
    assert driver(bare, PORTS) is None


def test_port_swap_frees_the_port_first() -> None:
    """The old color is taken away, then the new one is started on its port; the way back mirrors it."""
    swap = PortSwap(8000, Path("/s"), {"blue": "recall_blue", "green": "recall_green"}, "api", UNREACHABLE)
    change = swap.switch("green")
    assert change.do[6:11] == ("sh", "/s/restore-service.sh", "recall_blue", "api", "")
    assert "/s/releases/green/port-swap.yml" in change.do
    free, ensure, again = change.undo
    assert " 8000 recall_blue /s/restore-service.sh recall_green api" in free
    assert ensure.startswith("timeout -k 10 390 sh /s/ensure-running.sh recall_blue api docker compose")
    assert "/s/releases/blue/port-swap.yml" in ensure
    assert "sh /s/ensure-running.sh recall_green api docker compose" in again
    assert "/s/releases/green/own-port.yml" in again
    assert "no color answers users while green starts" in change.text


@pytest.mark.parametrize(
    ("proxy", "port"),
    [
        ({"live_port": 9000, "url": "http://127.0.0.1:9001"}, 9000),
        ({"url": "http://127.0.0.1:9001"}, 9001),
    ],
)
def test_the_port_that_users_know(proxy: dict[str, object], port: int) -> None:
    """As configured, else the URL's."""
    assert PortSwap.of(proxy_settings(driver="port-swap", **proxy), PORTS).live_port == port


def test_a_release_on_another_port() -> None:
    """Only the published port of the one service changes."""
    release = {
        "services": {
            "api": {
                "image": "a$$b",
                "ports": [{"target": 8000, "published": "8001", "host_ip": "127.0.0.1"}],
            },
            "worker": {"ports": [{"target": 1, "published": "8001"}]},
        }
    }
    changed = json.loads(publish_on(json.dumps(release), "api", 8000))
    assert changed["services"]["api"]["ports"][0] == {
        "target": 8000,
        "published": "8000",
        "host_ip": "127.0.0.1",
    }
    assert changed["services"]["worker"] == release["services"]["worker"]
    assert changed["services"]["api"]["image"] == "a$$b"

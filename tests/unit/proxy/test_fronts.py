"""Several nodes with the proxy: what they say together, and how they are switched back."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from cutover.core.change import Argv, line, undo_script
from cutover.core.config import Settings
from cutover.core.config_schema import Slo
from cutover.core.errors import ConfigError
from cutover.core.evidence import Evidence
from cutover.core.verdict import Outcome
from cutover.proxy.access_log import AccessLog, LogTails
from cutover.proxy.base import Fronts, Live, driver, judge_fronts
from cutover.proxy.drain import in_flight_at
from cutover.proxy.nginx import read_marker
from cutover.proxy.place import Front, fronts_of
from cutover.proxy.proof import SwitchReport, together
from cutover.release.changes import back_lines
from cutover.release.colors import Colors
from cutover.release.preflight import log_problem, require_agreed
from cutover.release.switch import switch_changes
from cutover.system.compose import Rendered
from cutover.system.process import CompletedCommand
from cutover.system.ssh import SshHost
from cutover.watch.check import run_watch
from cutover.watch.traffic import TrafficSource, UsersCost, cost_since, traffic_checks
from tests.helpers.near_host import NearHost
from tests.helpers.proxy_drivers import near, proxy_settings

BLUE, GREEN, SILENT = Live("blue", "it said so"), Live("green", "it said so"), Live(None, "no answer")
FRONTS = {"web-1": "http://10.0.0.1", "deploy@web-2": "http://10.0.0.2/"}


def fronts(**proxy: object) -> Fronts:
    """The proxy of two nodes."""
    settings = proxy_settings(driver="nginx", url="http://10.0.0.9", **proxy)
    return fronts_with(settings, {"fronts": FRONTS})[1]


def fronts_with(settings: Settings, platform: dict[str, object]) -> tuple[Settings, Fronts]:
    """*settings* with this `[platform]`, and the proxy of its nodes."""
    update = {"platform": settings.platform.model_copy(update=platform)}
    settings = settings.model_copy(update=update)
    found = driver(settings, {"blue": 8000, "green": 8001})
    assert isinstance(found, Fronts)
    return settings, found


@pytest.mark.parametrize(
    ("found", "color", "how"),
    [
        ({"a": BLUE, "b": BLUE}, "blue", "a, b agree"),
        ({"a": BLUE, "b": GREEN}, None, "a sends users to blue, b sends users to green"),
        ({"a": BLUE, "b": SILENT}, None, "b: no answer"),
    ],
)
def test_who_serves_is_known_if_all_fronts_say_the_same(
    found: dict[str, Live], color: str | None, how: str
) -> None:
    """One that is silent or differs makes it unknown, and is named."""
    live = judge_fronts(found)
    assert live.color == color
    assert live.how.startswith(how)


def test_each_front_is_asked_at_its_url_and_switched_over_ssh() -> None:
    """In the order of the file; users' address stays that of the proxy."""
    found = fronts()
    assert found.client.url == "http://10.0.0.9"
    assert [each.client.url for each in found.drivers] == ["http://10.0.0.1", "http://10.0.0.2"]
    assert [each.place.name for each in found.drivers] == [*FRONTS]
    there = found.drivers[1].switch("green")
    assert there.do[0] == "ssh"
    assert there.do[-2] == "deploy@web-2"
    (undo,) = there.undo
    assert shlex.split(undo)[:4] == ["timeout", "-k", "10", "30"]
    assert "sh /s/recall-live green blue" in shlex.split(shlex.split(undo)[-1])[-1]


def test_each_front_has_a_change_with_its_undo(tmp_path: Path) -> None:
    """The switch comes first in the undo script, and each front is switched back by its own lines."""
    proxy = fronts()
    settings = proxy_settings(driver="nginx", url="http://10.0.0.9").model_copy(
        update={"state_dir": tmp_path}
    )
    both = {"blue": rendered("blue", 8000), "green": rendered("green", 8001)}
    first, second = switch_changes(Colors(settings, both, proxy, BLUE), "green", None)
    assert (first.do[-2], second.do[-2]) == ("web-1", "deploy@web-2")
    assert second.text == "blue → green on deploy@web-2"
    text = undo_script([first, second])
    assert text.index("deploy@web-2:$!") < text.index(" web-1:$!") < text.index("wait ")


def rendered(color: str, port: int) -> Rendered:
    """A color of which only the port is asked."""
    ports = [{"target": 8000, "published": str(port)}]
    return Rendered(color, f"recall_{color}", "", {"services": {"api": {"ports": ports}}}, {})


def test_a_front_that_is_not_reached_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """All are switched back at the same time; the undo fails in the end and names the one that was not."""
    marks = [tmp_path / name for name in ("first", "third", "ensured")]
    first, third, ensured = (line("touch", str(each)) for each in marks)
    # One after the other the script would never end: the undo that it starts first waits for the last one.
    waits = f"until [ -e {marks[0]} ]; do sleep 0.05; done"
    fronts = [("web-1", [first]), ("ana@web-2", ["false"]), ("web-3", [waits, third])]
    backs = back_lines(fronts, "true", ensured)
    script = "\n".join(each for undo in reversed(backs) for each in undo)
    done = subprocess.run(
        ("sh", "-eu", "-c", script), capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "could not be switched back: ana@web-2\n")
    assert all(each.exists() for each in marks)
    good = back_lines([("web-1", ["true"]), ("web-2", ["true"])])
    script = "\n".join(each for undo in reversed(good) for each in undo)
    assert subprocess.run(("sh", "-eu", "-c", script), check=False, timeout=60).returncode == 0


def test_proofs_of_several_fronts_are_one_report() -> None:
    """Requests are added up, the longest gap counts, and the chart has the requests of both."""
    one = SwitchReport(
        "green", requests=10, answered=10, longest_gap_ms=7, first_answer_ms=3, timeline=((0, 1, 2, 0),)
    )
    two = SwitchReport(
        "green", requests=5, answered=4, failed=1, longest_gap_ms=9, first_answer_ms=4, errors=("x",),
        timeline=((0, 1, 1, 0), (100, 0, 1, 1)),
    )  # fmt: skip
    both = together([one, two])
    assert (both.requests, both.answered, both.failed, both.longest_gap_ms) == (15, 14, 1, 9)
    assert both.timeline == ((0, 2, 3, 0), (100, 0, 1, 1))
    assert not both.verdict().ok
    assert together([one]) is one


class GreetingFront(Front):
    """A front where a start file of the shell prints a line before each command."""

    def _ask(self, words: Argv, deadline_s: float) -> CompletedCommand:
        return NearHost(self.name, None).run(shlex.join(words), deadline_s=deadline_s, mask=False)


def test_what_a_shell_prints_first_changes_no_answer(tmp_path: Path) -> None:
    """The names and the mode of a folder, the content of a file, the color and the log are those of the front."""
    front, marker, log = GreetingFront(SshHost("web-1", None)), tmp_path / "marker", tmp_path / "log"
    marker.mkdir(mode=0o755)
    for name in ("here", "green"):
        (marker / name).touch()
    log.write_text("one\ntwo\n")
    assert front.folder(marker) == ({"here", "green"}, marker.stat().st_mode)
    assert read_marker(marker, front).color == "green"
    assert front.content(log) == b"one\ntwo\n"
    assert front.newest(log).content == b"one\ntwo\n"
    with pytest.raises(OSError, match="No such file or directory"):
        front.content(tmp_path / "none")


@pytest.fixture
def unreachable(tmp_path: Path) -> dict[str, object]:
    """A `[platform]` with two fronts where no sshd listens and no proxy either."""
    config = tmp_path / "ssh_config"
    config.write_text("Host web-1 web-2\n    HostName 127.0.0.1\n    Port 1\n")
    urls = {"web-1": "http://127.0.0.1:1", "web-2": "http://127.0.0.1:2"}
    return {"fronts": urls, "ssh_config": config}


def test_an_unreachable_front_is_named_before_anything_changes(
    unreachable: dict[str, object], tmp_path: Path
) -> None:
    """Which color it serves is not certain, and its log shows nothing: each is refused with the reason."""
    log = tmp_path / "log"
    settings = proxy_settings(driver="nginx", url="http://10.0.0.9", access_log=str(log))
    settings, proxy = fronts_with(settings, unreachable)
    refused = "no answer: ssh: connect to host 127.0.0.1 port 1: Connection refused"
    with pytest.raises(ConfigError) as caught:
        require_agreed(proxy)
    said = f"it is not certain which color is live: web-1: /s/recall-live: web-1: {refused}".lower()
    assert str(caught.value).lower() == said
    both = f"web-1: {log} cannot be read: {refused}; web-2: {log} cannot be read: {refused}"
    assert log_problem(Colors(settings, {}, proxy, BLUE)) == f"[proxy] access_log: {both}"


def test_a_front_that_falls_silent_ends_the_watch_as_unknown(
    unreachable: dict[str, object], tmp_path: Path
) -> None:
    """It is named, and what the others show is no "0 failed"; a sure no of the others stays a no."""
    path = tmp_path / "log"
    settings, _ = fronts_with(proxy_settings(driver="nginx", url="http://10.0.0.9"), unreachable)
    silent = AccessLog(path, fronts_of(settings.platform)[1])
    logs = [AccessLog(path, near("web-1")), silent]
    traffic = TrafficSource(
        LogTails.of(logs), "green", 1000.0, frozenset(), Evidence(), Slo.model_validate({}), every_s=1.0
    )
    errors, *_ = traffic_checks(traffic)
    clock = iter(range(1000))
    seen = run_watch([errors], 300.0, clock=lambda: float(next(clock)), sleep=lambda _s: None)
    why = (
        f"web-2: {path} cannot be read: no answer: ssh: connect to host 127.0.0.1 port 1: Connection refused"
    )
    assert (seen.ended_by, seen.verdicts["5xx"].outcome) == ("5xx", Outcome.UNKNOWN)
    assert seen.verdicts["5xx"].reason == why
    line_of_user = {
        "ts": 1001, "color": "green", "status": 500, "seconds": 0.1, "connection": "1", "method": "GET",
        "path": "/m", "upstream_addr": "127.0.0.1:1",
    }  # fmt: skip
    before = line_of_user | {"ts": 999}
    path.write_text(f"{json.dumps(before)}\n" + f"{json.dumps(line_of_user)}\n" * 9)
    assert cost_since(logs, "green", 1000.0, frozenset()) == UsersCost(9, 0.0, why)
    errors.poll(2000.0)
    assert errors.verdict().outcome is Outcome.NO


def test_connections_in_a_network_of_its_own_are_unknown() -> None:
    """A front whose proxy's port is published by Docker, or where nobody listens on it, counts nothing."""
    front = near("web-1")
    with ExitStack() as stack:
        door, color = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        listens, port = door.getsockname()[1], color.getsockname()[1]
        assert front.in_flight(listens, port) == 0
        stack.enter_context(socket.create_connection(color.getsockname()))
        assert front.in_flight(listens, port) == 1
        assert in_flight_at({front: listens, near("web-2"): listens}, port) == 2
        forwards = (
            "sh",
            "-c",
            "read -r _; :",
            "docker-proxy",
            "-host-port",
            str(listens),
            "-container-port",
            "1",
        )
        with subprocess.Popen(forwards, stdin=subprocess.PIPE):
            assert front.in_flight(listens, port) is None
            assert in_flight_at({front: listens}, port) is None
        assert front.in_flight(listens, port) == 1
        door.close()
        assert front.in_flight(listens, port) is None

"""Several nodes with the proxy: what they say together, and how they are switched back."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from cutover.core.change import line, undo_script
from cutover.proxy.base import Fronts, Live, driver, judge_fronts
from cutover.proxy.proof import SwitchReport, together
from cutover.release.changes import back_lines
from cutover.release.colors import Colors
from cutover.release.switch import switch_changes
from cutover.system.compose import Rendered
from tests.helpers.proxy_drivers import proxy_settings

BLUE, GREEN, SILENT = Live("blue", "it said so"), Live("green", "it said so"), Live(None, "no answer")
FRONTS = {"web-1": "http://10.0.0.1", "deploy@web-2": "http://10.0.0.2/"}


def fronts(**proxy: object) -> Fronts:
    """The proxy of two nodes."""
    settings = proxy_settings(driver="nginx", url="http://10.0.0.9", **proxy)
    platform = settings.platform.model_copy(update={"fronts": FRONTS})
    found = driver(settings.model_copy(update={"platform": platform}), {"blue": 8000, "green": 8001})
    assert isinstance(found, Fronts)
    return found


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

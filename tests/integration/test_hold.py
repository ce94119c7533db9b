"""Hold and confirm on the engine: what users get, what status says, and who may release meanwhile."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from cutover.release.state import State
from examples.releases import build
from examples.stand import Stand, pause
from tests.helpers.live_stand import live_stand
from tests.plugin.project import until

pytestmark = pytest.mark.engine
V1, V2 = "sha-b01d001", "sha-b01d002"
SESSION = ("smoke", "checks", "--target=idle", "--switch", "--watch=1s")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand where V1 is live on blue and verified, and V2 was built."""
    with live_stand(tmp_path_factory.mktemp("stand"), "hold", V1) as made:
        build(V2)
        yield made


def hold(stand: Stand, seconds: str) -> str:
    """Release V2 under a hold; the id of the release."""
    done = stand.pytest(*SESSION, f"--deploy={V2}", f"--hold={seconds}")
    assert done.code == 0, done.out
    found = re.search(
        r"^HELD  until \d\d:\d\d:\d\d UTC; confirm with cutover confirm (\S+)\. ", done.out, re.MULTILINE
    )
    assert found, done.out
    assert stand.ask()["version"] == V2
    return found[1]


def status_of(stand: Stand) -> dict[str, object]:
    """What `cutover status --json` says."""
    status: dict[str, object] = json.loads(stand.cutover("status", "--json").out.splitlines()[-1])
    return status


def assert_v1_again(stand: Stand) -> None:
    """Users get V1, and nothing is open."""
    status = status_of(stand)
    assert stand.ask()["version"] == V1
    assert (status["open"], status["hold"], status["needs_operator"]) == (None, None, None)


def test_a_hold_that_is_rolled_back(stand: Stand) -> None:
    """Meanwhile status says who holds what, another release exits 12, and nothing is recorded yet."""
    release = hold(stand, "10m")
    status = status_of(stand)
    held = status["hold"]
    assert isinstance(held, dict)
    assert (held["release"], held["tag"], held["color"]) == (release, V2, "green")
    assert 500 < held["until_s"] - time.time() <= 600
    said = stand.cutover("status")
    assert said.code == 0
    assert f"{V2} on green is held by " in said.out
    assert (
        f"its guard runs\n  end    `cutover confirm {release}` keeps it, `cutover rollback` reverts it"
        in said.out
    )
    for words in (
        ("smoke", "--target=idle", f"--deploy={V2}"),
        (*SESSION, f"--deploy={V2}"),
    ):
        refused = stand.pytest(*words)
        assert refused.code == 12, refused.out
        assert f"{V2} on green is held by " in refused.out
    assert stand.cutover("retire").code == 12
    assert stand.cutover("rehearse").code == 12
    assert "would be refused now" in stand.pytest(*SESSION, f"--deploy={V2}", "--plan").out
    assert "its guard runs" in stand.cutover("recover").out
    assert stand.cutover("confirm", "nope").code == 4
    assert "can be confirmed" in stand.cutover("confirm", release, "--check").out
    assert stand.ask()["version"] == V2
    assert "IMAGE_TAG=" + V2 not in stand.env_file("green").read_text()
    done = stand.cutover("rollback")
    assert done.code == 0, done.out
    assert f"release {release} was reverted" in done.out
    assert_v1_again(stand)
    late = stand.cutover("confirm", release)
    assert late.code == 1
    assert f"{release} cannot be confirmed: it was reverted at 20" in late.out


def test_a_hold_that_nobody_confirms(stand: Stand) -> None:
    """Its guard reverts it at the deadline; a confirmation after that says when."""
    release = hold(stand, "10s")
    until(lambda: stand.ask()["version"] == V1, "the guard flips")
    until(lambda: status_of(stand)["open"] is None, "the guard reverts")
    late = stand.cutover("confirm")
    assert late.code == 1
    assert re.search(rf"{release} cannot be confirmed: it was reverted at 20\S+ by its guard", late.out), (
        late.out
    )
    assert_v1_again(stand)


def test_a_hold_whose_guards_are_gone(stand: Stand) -> None:
    """As after a reboot: `recover` starts one again, and a confirmation that is too late reverts the release itself."""
    release = hold(stand, "40s")

    state = State(stand.state)
    until(lambda: len(state.guards(release)) == 2, "two guards")  # they are processes
    assert state.end_guard(release)
    assert "NO GUARD RUNS, so run `cutover recover`" in stand.cutover("status").out
    assert "its guard was started again" in stand.cutover("recover").out
    assert state.guard_lives(release)
    until(lambda: len(state.guards(release)) == 2, "two guards")
    assert state.end_guard(release)
    held = state.held()
    assert held is not None
    time.sleep(max(0.0, held.until(held.begun) - time.time() + 0.2))
    late = stand.cutover("confirm", release)
    assert late.code == 1, late.out
    assert f"{release} was not confirmed in time and is reverted now" in late.out
    assert_v1_again(stand)


def test_a_hold_that_is_confirmed(stand: Stand) -> None:
    """Not while it does not serve; then it is recorded as a commit is, and twice is as good as once."""
    release = hold(stand, "10m")
    green = stand.docker("ps", "-q", "--filter", f"label=com.docker.compose.project={stand.project('green')}",
                         "--filter", "label=com.docker.compose.service=api").split()[0]  # fmt: skip
    pause(green)
    refused = stand.cutover("confirm")
    assert refused.code in {1, 10}, refused.out
    assert "it is not confirmed: `cutover rollback` reverts it now" in refused.out
    stand.docker("unpause", green)
    until(lambda: stand.cutover("confirm").code == 0, "it is well again and confirmed")
    again = stand.cutover("confirm", release)
    assert again.code == 0
    assert f"{release} is confirmed already: it was released at" in again.out
    status = status_of(stand)
    assert (status["live"], status["open"], status["hold"]) == ("green", None, None)
    assert status["colors"]["green"]["verified"] is True  # type: ignore[index]  # JSON
    assert f"IMAGE_TAG={V2}" in stand.env_file("green").read_text()
    assert stand.ask()["version"] == V2
    back = stand.cutover("rollback")
    assert back.code == 0, back.out
    assert stand.ask()["version"] == V1

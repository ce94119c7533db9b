"""A session with each proxy and with a port swap: one release that is kept, and one reverted under traffic."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from cutover.core.evidence import load_evidence
from examples.releases import build
from examples.stand import GOOD, Stand, latest
from tests.helpers import proxy_files
from tests.helpers.color_servers import listens, process, tool, wait_until

pytestmark = pytest.mark.engine
BETTER, BAD = "sha-2222222", "sha-bad0b1e"
NEVER_S = 3600.0


LIKE_A_TEAM = """
[proxy]
driver = "command"
url = "http://127.0.0.1:{port}"
switch = ["{folder}/switch.sh", "{{color}}"]
status = ["{folder}/switch.sh"]
access_log = "{folder}/access.log"
"""


@contextmanager
def haproxy(folder: Path, name: str) -> Iterator[Stand]:
    """A stand behind HAProxy, run as a child process and switched by the command driver."""
    tool("socat", "socat")
    own = folder / "haproxy"
    own.mkdir()
    one = Stand(folder, name, proxied=False)
    port = one.ports["proxy"]
    one.extra = LIKE_A_TEAM.format(port=port, folder=own)
    main, _ = proxy_files.haproxy(own, one.ports, port)
    words = (tool("haproxy", "haproxy"), "-f", str(main), "-db")
    with process(words, own / "access.log", lambda: listens(port)):
        yield one


@contextmanager
def stand_by(driver: str, folder: Path) -> Iterator[Stand]:
    """A stand with a verified release on blue, which is live."""
    name = f"proxies-{uuid.uuid4().hex[:8]}"
    shipped = nullcontext(Stand(folder, name, driver=driver))  # type: ignore[arg-type]
    with haproxy(folder, name) if driver == "haproxy" else shipped as one:
        try:
            one.make()
            first = one.release(GOOD, "blue" if driver == "port-swap" else "live")
            assert first.code == 0, first.out
            yield one
        finally:
            one.remove()


@pytest.fixture
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    """A stand with the driver given as the parameter."""
    with stand_by(request.param, tmp_path) as one:
        yield one


def broken_when_live(stand: Stand, color: str, first: Callable[[], object] = lambda: None) -> tuple[int, str]:
    """Release BAD to *color*; once it is live, call *first* and make it fail. Return exit code and output.

    Triggered by an event rather than a timer, so that the test does not depend on the load of the machine.
    """
    build(BAD, "breaks-later", seconds=NEVER_S)
    session = stand.start("smoke", "checks", "--target=idle", f"--deploy={BAD}", "--switch", "--watch=5m")
    try:
        wait_until(lambda: stand.ask().get("version") == BAD, "the bad release is live", within_s=300)
        first()
        break_it(stand, color)
        out, _ = session.communicate(timeout=300)
    finally:
        session.kill()
        session.wait()
    return session.returncode, out


def break_it(stand: Stand, color: str) -> None:
    """Make the release on *color* return 500 for every request."""
    label = f"label=com.docker.compose.project={stand.project(color)}"
    stand.docker("exec", stand.docker("ps", "--quiet", "--filter", label).strip(), "touch", "/tmp/break")


@pytest.mark.parametrize("stand", ["traefik", "haproxy", "port-swap"], indirect=True)
def test_a_cutover_stays_and_a_bad_one_is_reverted(stand: Stand) -> None:
    """The switch report matches what users saw; a release that fails after the switch exits with 1 and is reverted."""
    build(BETTER)
    done = stand.pytest("smoke", "checks", "--target=idle", f"--deploy={BETTER}", "--switch", "--watch=2s")
    assert done.code == 0, done.out
    assert stand.ask()["color"] == "green"
    proof = load_evidence(latest(stand.folder) / "evidence.jsonl").facts["proof"]
    assert (proof["to"], proof["failed"], proof["wrong"]) == ("green", 0, 0)
    assert proof["answered"] == proof["requests"] > 0
    assert (proof["failed_in_gap"] > 0) == (stand.driver == "port-swap")

    code, out = broken_when_live(stand, "blue")
    assert code == 1, out
    assert "ROLLED BACK" in out
    assert "somebody" not in out
    assert (stand.ask()["color"], stand.ask()["version"]) == ("green", BETTER)
    assert stand.running("green") == [f"recall/api:{BETTER}"]


@pytest.mark.parametrize("stand", ["nginx"], indirect=True)
def test_a_log_that_shows_nothing_is_refused(stand: Stand) -> None:
    """A missing access log would hide failed requests: exit code 4 with the reason, and no change."""
    stand.config.write_text(stand.toml().replace("access.jsonl", "error.log"))
    done = stand.pytest("smoke", "checks", "--target=idle", f"--deploy={GOOD}", "--switch")
    assert done.code == 4, done.out
    assert "[proxy] access_log:" in done.out
    assert "is not there: which file does the proxy log to?" in done.out
    assert stand.running("green") == []


@pytest.mark.parametrize("stand", ["nginx"], indirect=True)
def test_a_marker_changed_by_hand_during_a_release(stand: Stand) -> None:
    """With a second marker file, added by hand, green keeps serving; deleting the other one lets the revert end."""
    code, out = broken_when_live(stand, "green", (stand.marker / "blue").touch)
    assert code == 11, out
    assert "names green and blue: remove the one that should not be live" in out
    assert stand.running("green") == [f"recall/api:{BAD}"]
    (stand.marker / "green").unlink()
    wait_until(lambda: stand.ask().get("version") == GOOD, "blue serves")
    # By the guard, which goes on trying, or by this.
    assert stand.cutover("recover").code == 0
    assert stand.status()["open"] is None
    assert stand.running("green") == []

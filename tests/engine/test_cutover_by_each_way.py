"""A whole session behind Traefik and by a port swap: one that stays, and one that is taken back under traffic."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from cutover.evidence import load
from examples.releases import build
from examples.stand import GOOD, Stand, latest
from tests.proxies.servers import wait_until

pytestmark = pytest.mark.engine
BETTER, BAD = "sha-2222222", "sha-bad0b1e"
NEVER_S = 3600.0


@pytest.fixture(params=["traefik", "port-swap"])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stand]:
    """A stand with a proven release on blue, which is live."""
    driver: Literal["traefik", "port-swap"] = request.param
    one = Stand(tmp_path, f"proxies-{uuid.uuid4().hex[:8]}", driver=driver)
    try:
        one.make()
        first = one.release(GOOD, "live" if driver == "traefik" else "blue")
        assert first.code == 0, first.out
        yield one
    finally:
        one.remove()


def test_a_cutover_stays_and_a_bad_one_is_taken_back(stand: Stand) -> None:
    """The proof says what users saw; a release that breaks after the switch ends with 1 and the old one serves."""
    build(BETTER)
    done = stand.pytest("smoke", "checks", "--target=idle", f"--deploy={BETTER}", "--switch", "--watch=2s")
    assert done.code == 0, done.out
    assert stand.ask()["colour"] == "green"
    proof = load(latest(stand.folder) / "evidence.jsonl").facts["proof"]
    assert (proof["to"], proof["failed"], proof["wrong"]) == ("green", 0, 0)
    assert proof["answered"] == proof["requests"] > 0
    assert (proof["failed_in_gap"] > 0) == (stand.driver == "port-swap")

    build(BAD, "breaks-later", seconds=NEVER_S)
    session = stand.start("smoke", "checks", "--target=idle", f"--deploy={BAD}", "--switch", "--watch=5m")
    try:
        # It breaks when users have it, not at a time that a busy machine may miss.
        wait_until(lambda: stand.ask().get("version") == BAD, "the bad release is live", within_s=300)
        label = f"label=com.docker.compose.project={stand.project('blue')}"
        stand.docker("exec", stand.docker("ps", "--quiet", "--filter", label).strip(), "touch", "/tmp/break")
        out, _ = session.communicate(timeout=300)
    finally:
        session.kill()
        session.wait()
    assert session.returncode == 1, out
    assert "TAKEN BACK" in out
    assert (stand.ask()["colour"], stand.ask()["version"]) == ("green", BETTER)
    assert stand.running("green") == [f"recall/api:{BETTER}"]

"""Services that a released one waits for to complete, on a real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.core.config import load_config
from cutover.core.errors import Failed
from cutover.core.evidence import Evidence
from cutover.core.target import ReleaseRequest, Target
from cutover.proxy.base import Live
from cutover.release.colors import BeforeRelease, Colors, Situation
from cutover.release.migrate import run_one_shots
from cutover.release.state import State, lock_owner
from cutover.release.transaction import Reporter, Transaction
from cutover.system import compose, process

pytestmark = pytest.mark.engine
PROJECT = "one-shots_blue"
COMPOSE = """
services:
  api: {image: "debian:${IMAGE_TAG:?}", depends_on: {seed: {condition: service_completed_successfully}}}
  seed:
    image: debian:${IMAGE_TAG:?}
    command: [sh, -c, "echo seed >>/data/log; exit ${SEED:?}"]
    volumes: ["./data:/data"]
    depends_on: {migrate: {condition: service_completed_successfully}}
  migrate:
    image: debian:${IMAGE_TAG:?}
    command: [sh, -c, 'echo "migrate in $$IMAGE_TAG" >>/data/log']
    env_file: [.env.blue]
    volumes: ["./data:/data"]
"""
TOML = """
project = "one-shots"
state_dir = "../state"
colors.blue = { env_file = ".env.blue" }
"""


@pytest.mark.parametrize("code", [0, 3])
def test_one_shot_services_run_before_the_release(tmp_path: Path, code: int) -> None:
    """They run in the order of Compose, in the new image; the failure of one ends the release, and a revert cleans up."""
    (tmp_path / "repo" / "data").mkdir(parents=True)
    (tmp_path / "repo" / "docker-compose.yml").write_text(COMPOSE)
    (tmp_path / "repo" / ".env.blue").write_text(f"IMAGE_TAG=sha-1\nSEED={code}\n")
    (tmp_path / "repo" / "cutover.toml").write_text(TOML)
    settings = load_config(tmp_path / "repo" / "cutover.toml")
    new, state = compose.render(settings, "blue", "bookworm-slim"), State(settings.state)
    request, before = ReleaseRequest(("blue",), deploy="bookworm-slim"), BeforeRelease(None, None)
    target = Target(name="blue", kind="color", base_url="http://127.0.0.1:1", color="blue", project=PROJECT)
    situation = Situation(settings, request, Colors(settings, {}, None, Live(None, "")), target, before)
    state.prepare()
    path = state.release_folder("blue") / "new.yml"
    path.write_text(new.text)
    said = ""
    try:
        with state.locked(lock_owner("a test")):
            tx = Transaction.of(situation)
            try:
                run_one_shots(tx, situation, new, path, Reporter(Evidence()))
            except Failed as error:
                said = str(error)
            assert tx.changed
            assert tx.revert().ok
    finally:
        process.run(("docker", "network", "rm", f"{PROJECT}_default"), deadline_s=60)
    assert (tmp_path / "repo" / "data" / "log").read_text() == "migrate in bookworm-slim\nseed\n"
    failed = "seed has to complete before the release starts, and failed: exit 3"
    assert said.startswith(failed) if code else not said
    left = process.run(("docker", "ps", "--all", "--quiet", "--filter", f"name={PROJECT}-run"), deadline_s=60)
    assert (left.code, left.out) == (0, "")

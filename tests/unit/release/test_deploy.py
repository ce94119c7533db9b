"""The identity of what was started."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cutover.core.config import url_config
from cutover.core.errors import Failed
from cutover.release.deploy import _runs_verified, require_identity
from cutover.release.history import Record
from cutover.release.plan import DeployPlan
from cutover.release.state import State
from cutover.system import docker
from cutover.system.compose import Rendered
from cutover.system.docker import SwarmService, SwarmTask
from tests.helpers.containers import container


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, None),
        ({"image_name": "sha256:1"}, None),  # named by its ID: the image is compared all the same
        ({"image_name": "recall/api:sha-1"}, "expected tag sha-2, recall_green-api-1 runs sha-1"),
        ({"image_name": "recall/api:sha-1", "image": "sha256:2"}, "expected tag sha-2"),
        ({"image": "sha256:" + "2" * 64}, "expected image 1, recall_green-api-1 runs 222222222222"),
        ({"config_hash": "f" * 64}, "expected config hash e{12}, recall_green-api-1 has f{12}"),
    ],
)
def test_what_was_started_is_what_was_asked_for(changes: dict[str, str], refused: str | None) -> None:
    """The running container has the tag, the image and the configuration of the release."""
    found = replace(container(), **{"config_hash": "e" * 64, **changes})  # type: ignore[arg-type]
    with pytest.raises(Failed, match=refused) if refused else nullcontext():
        require_identity(found, "sha256:1", "e" * 64, "sha-2")


IMAGE, HASH = "recall/api:sha-2", "e" * 64
RUNS = SwarmTask("running", IMAGE, HASH, "web-1", "")


@pytest.mark.parametrize(
    ("tasks", "desired", "runs"),
    [
        ((RUNS, replace(RUNS, node="web-2")), 2, True),
        ((RUNS, replace(RUNS, node="web-2", state="pending")), 2, False),
        ((RUNS, replace(RUNS, node="web-2", image="recall/api:sha-1")), 2, False),
        ((RUNS, replace(RUNS, node="web-2", config_hash="f" * 64)), 2, False),
        ((RUNS,), 2, False),
        (None, 0, False),
    ],
)
def test_a_stack_runs_already_only_if_it_does_on_all_nodes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tasks: tuple[SwarmTask, ...] | None,
    desired: int,
    runs: bool,
) -> None:
    """The containers of this node are not all of it: else it is deployed again, and its tasks are judged."""
    service = SwarmService(IMAGE, desired, tasks, "paused", "then", "") if tasks is not None else None
    found = replace(container(), config_hash=HASH)
    monkeypatch.setattr(docker, "by_service", lambda *_: {"api": found})
    monkeypatch.setattr(docker, "swarm_service", lambda _name: service)
    record = Record("green", "sha-2", found.image, HASH, found.id, "2.yml", verified=True, by="ana", at="x")
    monkeypatch.setattr(State, "verified_record", lambda *_: record)
    model = {"services": {"api": {"image": IMAGE}}}
    rendered = Rendered("green", "recall_green", "", model, {}, {"api": HASH})
    plan = DeployPlan("sha-2", rendered, {"api": found.image}, None)
    assert _runs_verified(State(tmp_path), url_config(), plan, {"api": HASH}) is runs
    compose = replace(plan, rendered=replace(rendered, hashes={}))
    assert _runs_verified(State(tmp_path), url_config(), compose, {"api": HASH})

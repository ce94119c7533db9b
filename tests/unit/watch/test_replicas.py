"""Replicas: each container of a release is found and watched."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cutover.core.config import Settings
from cutover.core.target import Target
from cutover.system import docker
from cutover.system.container import HERE, Container, Engine
from cutover.watch.suite import siblings
from tests.helpers.containers import container


def replica(service: str, number: int, status: str = "running", at: int = 10) -> Container:
    """Replica *number* of *service*, started at second *at*."""
    labels = {"com.docker.compose.service": service, "com.docker.compose.container-number": str(number)}
    made = container(id=f"{service}{number}{at}", Status=status, StartedAt=f"2026-01-01T00:00:{at}Z")
    return replace(made, labels=labels)


THERE = [
    replica("api", 1, "exited"),
    replica("api", 1, at=20),
    replica("worker", 3),
    replica("worker", 1, "exited", at=30),
    replica("worker", 2),
    replica("mail", 1),
]


@pytest.fixture(autouse=True)
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine list the containers in THERE."""

    def containers(_project: str, service: str | None = None, engine: Engine = HERE) -> list[Container]:
        assert engine == HERE
        return [each for each in THERE if service in {None, each.service}]

    monkeypatch.setattr(docker, "containers", containers)


@pytest.mark.parametrize(
    ("service", "ids"),
    [("api", ["api120"]), ("worker", ["worker310", "worker130", "worker210"]), ("none", [])],
)
def test_each_number_is_there_once(service: str, ids: list[str]) -> None:
    """The running replica comes first; a stopped container with the number of a running one is left out."""
    found = docker.replicas("recall_green", service)
    assert [each.id for each in found] == ids
    assert docker.numbers("recall_green").get(service, []) == [each.number for each in found]
    assert docker.the_container("recall_green", service) == (found[0] if found else None)


def test_a_certain_replica() -> None:
    """The replica with that number, also if it has stopped; None if there is none."""
    dead = docker.the_container("recall_green", "worker", 1)
    assert dead is not None
    assert dead.id == "worker130"
    assert docker.the_container("recall_green", "worker", 4) is None


WORKERS = ["worker 3", "worker 1", "worker 2"]


@pytest.mark.parametrize(
    ("target", "watched"),
    [
        (Target("green", "color", "http://127.0.0.1:9", "green", "recall_green"), [*WORKERS, "late"]),
        (Target("live", "live", "http://127.0.0.1:9", "green", "recall_green"), [*WORKERS, "late", "mail"]),
        (Target("http://127.0.0.1:9", "url", "http://127.0.0.1:9"), []),
    ],
    ids=["color", "live", "url"],
)
def test_all_of_a_release_is_watched(target: Target, watched: list[str]) -> None:
    """All replicas of all services, a service without a container yet, and the workers if the target is live."""
    table = {
        "project": "recall", "services": ["api", "worker", "late"], "workers": ["mail"],
        "colors": {"blue": {"env_file": ".env.blue"}},
    }  # fmt: skip
    assert list(siblings(Settings.model_validate(table), target)) == watched

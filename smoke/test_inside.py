"""What can be seen inside the container, without writing anything."""

from contextlib import suppress

import pytest

from cutover.core.config import Settings
from cutover.core.errors import EngineUnavailable
from cutover.core.target import Target
from cutover.core.verdict import AssertVerdict
from cutover.gate.inside_checks import (
    ContainerHost,
    InsideView,
    judge_listens,
    judge_read_only,
    judge_user,
    look_from_outside,
    look_inside,
    port_inside,
)
from cutover.system import docker
from cutover.system.container import Container

pytestmark = pytest.mark.requires("container")


@pytest.fixture(scope="module")
def inside(container_host: ContainerHost, container: Container, cutover_config: Settings) -> InsideView:
    """What one look inside saw; of an image without a shell, what the engine and its host know."""
    paths = cutover_config.gate.read_only_paths
    seen = look_inside(container_host, paths)
    if seen.shell:
        return seen
    with suppress(EngineUnavailable):
        return look_from_outside(docker.attributes(container.id), docker.top(container.id), paths)
    return seen


@pytest.mark.asks("listens")
def test_listens(
    inside: InsideView,
    container: Container,
    target: Target,
    cutover_config: Settings,
    assert_verdict: AssertVerdict,
) -> None:
    """The service listens on its published port, or on `[gate] container_port`, where the outside reaches it."""
    assert_verdict(
        judge_listens(inside, cutover_config.gate.container_port or port_inside(container.ports, target.port))
    )


@pytest.mark.asks("user")
def test_user(inside: InsideView, cutover_config: Settings, assert_verdict: AssertVerdict) -> None:
    """Each worker of the service runs as its own user, never as root unless `[gate] user` says so."""
    assert_verdict(judge_user(inside, cutover_config.gate.user))


@pytest.mark.asks("read-only")
def test_read_only(inside: InsideView, cutover_config: Settings, assert_verdict: AssertVerdict) -> None:
    """The service cannot write where it has no business."""
    gate = cutover_config.gate
    assert_verdict(judge_read_only(inside, gate.read_only_paths, gate.user))

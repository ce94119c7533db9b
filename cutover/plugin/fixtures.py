"""The fixtures that checklists are written with; each may be overridden by a team."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from cutover.plugin.lazy import Lazy
from cutover.plugin.options import RUN

if TYPE_CHECKING:
    import httpx
    from docker import DockerClient

    from cutover.core.config import Settings
    from cutover.core.config_schema import Endpoint
    from cutover.core.evidence import Evidence
    from cutover.core.verdict import Verdict
    from cutover.gate.container_checks import ExpectedIdentity
    from cutover.gate.log_checks import LogBaseline
    from cutover.plugin import given
    from cutover.plugin.session import Run
    from cutover.system.container import Container
    from cutover.system.http import HttpClient
    from cutover.target import ControlProbe, Target
    from cutover.watch.check import WatchCheck
    from cutover.watch.loop import WatchResult
else:
    given = Lazy("cutover.plugin.given")  # every pytest session of an environment loads this plugin

Expect = Callable[["Verdict | Iterable[Verdict]"], None]

__all__ = [
    "assert_verdict",
    "container",
    "container_host",
    "control_probe",
    "cutover_config",
    "cutover_http",
    "cutover_session",
    "deploy",
    "docker_client",
    "endpoint",
    "evidence",
    "expected_identity",
    "expected_tag",
    "http_client",
    "log_baselines",
    "sibling_containers",
    "switch",
    "target",
    "watch_check_name",
    "watch_checks",
    "watch_result",
]


@pytest.fixture(scope="session")
def cutover_session(request: pytest.FixtureRequest) -> Run:
    """The session that releases."""
    return request.config.stash[RUN]


@pytest.fixture(scope="session")
def cutover_config(cutover_session: Run) -> Settings:
    """`cutover.toml`, validated."""
    return cutover_session.require_settings()


@pytest.fixture(scope="session")
def evidence(cutover_session: Run) -> Evidence:
    """Where everything that was seen is kept."""
    return cutover_session.evidence


@pytest.fixture(scope="session", autouse=True)
def _released_first(request: pytest.FixtureRequest) -> None:
    """A session that deploys does so before any test, also before one that uses no fixture of ours."""
    run = request.config.stash.get(RUN, None)
    if run is not None and run.request.deploy is not None:
        request.getfixturevalue("deploy")


@pytest.fixture(scope="session")
def deploy(cutover_session: Run) -> str | None:
    """The tag that --deploy put on the target; keeping or reverting is the session's end, not a finalizer."""
    return given.deploy(cutover_session)


@pytest.fixture(scope="session")
def switch(cutover_session: Run, deploy: str | None) -> bool:  # noqa: ARG001  # the order is the point
    """Whether --switch sent the traffic to the target."""
    return given.switch(cutover_session)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest, cutover_session: Run, deploy: str | None) -> Target:  # noqa: ARG001  # the order is the point
    """The target under test."""
    asked = request.param
    if asked.after_switch:
        request.getfixturevalue("switch")
    return given.target(cutover_session, asked)


@pytest.fixture(scope="session")
def control_probe(cutover_session: Run, target: Target) -> ControlProbe:
    """Tells the service's silence from a cut way."""
    return given.control(cutover_session, target)


@pytest.fixture(scope="session")
def http_client(cutover_session: Run, target: Target) -> Iterator[httpx.Client]:
    """An `httpx.Client` bound to the target: wall deadline, no redirects, no proxies from the environment."""
    from cutover.system.httpx_client import httpx_client

    url, deadline_s, verify = given.http_settings(cutover_session, target)
    with httpx_client(url, deadline_s, verify=verify) as client:
        yield client


@pytest.fixture(scope="session")
def cutover_http(cutover_session: Run, target: Target) -> Iterator[HttpClient]:
    """The client of cutover's own checks, bound to the target: a request without a response is a value."""
    from cutover.system.http import HttpClient

    with HttpClient(*given.http_settings(cutover_session, target)) as client:
        yield client


@pytest.fixture(scope="session")
def docker_client() -> DockerClient:
    """The docker SDK client."""
    from cutover.system.docker import client

    return client()


@pytest.fixture(scope="session")
def container(target: Target) -> Container:
    """The target's container as the engine describes it now."""
    return given.container_of(target)


@pytest.fixture(scope="session")
def sibling_containers(cutover_session: Run, target: Target) -> tuple[Container, ...]:
    """The containers of the target's other `services` and replicas, which are one release with it."""
    return given.beside(cutover_session, target)


@pytest.fixture(scope="session")
def container_host(container: Container) -> Any:
    """A testinfra host inside the target's container."""
    import testinfra

    return testinfra.get_host(f"docker://{container.id}")


@pytest.fixture(scope="session")
def log_baselines(cutover_session: Run, target: Target) -> Mapping[str, LogBaseline]:
    """Service -> the log of the container that ran on this color before; those that had none are missing."""
    return given.baselines(cutover_session, target)


@pytest.fixture(scope="session")
def expected_tag(target: Target) -> str | None:
    """The release that the target should be, None if nobody knows."""
    return target.tag


@pytest.fixture(scope="session")
def expected_identity(cutover_session: Run, target: Target) -> ExpectedIdentity:
    """The identity that the target should have."""
    return given.expected(cutover_session, target)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """One of the endpoints that cutover.toml lists."""
    found: Endpoint = request.param
    return found


@pytest.fixture(scope="session")
def watch_checks(cutover_session: Run, target: Target) -> list[WatchCheck]:
    """The checks of the watch; override it to add your own."""
    return given.watched(cutover_session, target)


@pytest.fixture(scope="session")
def watch_result(
    request: pytest.FixtureRequest, cutover_session: Run, target: Target, watch_checks: list[WatchCheck]
) -> WatchResult:
    """What was observed for the whole watch, or until the first sure no."""
    if cutover_session.request.switch:
        request.getfixturevalue("switch")
    return given.watch(cutover_session, target, watch_checks)


@pytest.fixture
def watch_check_name(request: pytest.FixtureRequest) -> str:
    """The name of one watched question."""
    return str(request.param)


@pytest.fixture
def assert_verdict(request: pytest.FixtureRequest, cutover_session: Run) -> Expect:
    """Records verdicts as evidence, and fails the test on a no or an unknown."""
    return given.expecting(cutover_session, request.node)

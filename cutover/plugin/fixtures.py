"""The fixtures that checklists are written with, registered only with --target; a team may override each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from cutover.core.config import Settings
from cutover.core.config_schema import OFF, Checks, Endpoint
from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.target import ControlProbe, Target
from cutover.core.verdict import Asks, AssertVerdict, Outcome, Verdict, not_asked
from cutover.gate.container_checks import ExpectedIdentity
from cutover.gate.log_checks import LogWindow
from cutover.plugin.checklist import NotAnswered, param_of, stage_of
from cutover.plugin.session import SESSION, CutoverSession
from cutover.proxy.base import other
from cutover.release.colors import control_for
from cutover.release.running import identity_of_target
from cutover.system import docker
from cutover.system.container import Container
from cutover.system.http import HttpClient
from cutover.system.nodes import nodes_of

if TYPE_CHECKING:
    import httpx
    from docker import DockerClient

    from cutover.gate.compare_requests import CompareRequest
    from cutover.gate.compare_run import LiveRelease
    from cutover.watch.check import WatchCheck, WatchResult


# --- the session -----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def cutover_session(request: pytest.FixtureRequest) -> CutoverSession:
    """The session itself, for plugins."""
    return request.config.stash[SESSION]


@pytest.fixture(scope="session")
def cutover_config(cutover_session: CutoverSession) -> Settings:
    """`cutover.toml`, validated."""
    return cutover_session.settings


@pytest.fixture(scope="session")
def evidence(cutover_session: CutoverSession) -> Evidence:
    """The evidence of the session: checks, steps, samples and facts."""
    return cutover_session.evidence


@pytest.fixture(scope="session", autouse=True)
def _deploy_first(request: pytest.FixtureRequest, cutover_session: CutoverSession) -> None:
    """With --deploy, deploy before any test, also before one that uses no fixture of ours."""
    if cutover_session.request.deploy is not None:
        request.getfixturevalue("deploy")


# --- steps -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def deploy(cutover_session: CutoverSession) -> str | None:
    """The tag that --deploy put on the target. The end of the session keeps or reverts it, not a finalizer."""
    return cutover_session.deploy()


@pytest.fixture(scope="session")
def switch(cutover_session: CutoverSession, deploy: str | None) -> bool:  # noqa: ARG001  # deployed first
    """Whether --switch sent the traffic to the target."""
    return cutover_session.switch()


@pytest.fixture(scope="session")
def rollback(cutover_session: CutoverSession) -> Callable[[], str]:
    """Callable that reverts the changes of this session now and returns what serves then; the session ends with 1."""
    return cutover_session.roll_back


# --- the target ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def target(
    request: pytest.FixtureRequest,
    cutover_session: CutoverSession,
    deploy: str | None,  # noqa: ARG001  # deployed first
) -> Target:
    """The copy of the service under test: name, base URL, color, tag; test ids read `test_ready[green]`."""
    if request.param.after_switch:
        request.getfixturevalue("switch")
    return cutover_session.target(request.param)


@pytest.fixture(scope="session")
def control_probe(cutover_session: CutoverSession, target: Target) -> ControlProbe:
    """Whether the path to the target is up, so that no response is the failure of the service itself."""
    return control_for(cutover_session.colors, target)


@pytest.fixture(scope="session")
def http_client(cutover_session: CutoverSession, target: Target) -> Iterator[httpx.Client]:
    """An `httpx.Client` bound to the target: total deadline, no redirects, no proxies from the environment."""
    from cutover.system.httpx_client import httpx_client

    url, timeout_s, verify = _http_options(cutover_session.settings, target)
    with httpx_client(url, timeout_s, verify=verify) as client:
        yield client


@pytest.fixture(scope="session")
def cutover_http(cutover_session: CutoverSession, target: Target) -> Iterator[HttpClient]:
    """The client of cutover's own checks, bound to the target: a request without a response is a value."""
    with HttpClient(*_http_options(cutover_session.settings, target)) as client:
        yield client


@pytest.fixture(scope="session")
def other_http(cutover_session: CutoverSession, target: Target) -> Iterator[HttpClient | None]:
    """A client for the other color during a release, to compare with in the same moment; None without one."""
    colors, settings = cutover_session.colors, cutover_session.settings
    beside = other(target.color) if target.color and cutover_session.request.changes_something else ""
    if colors is None or beside not in colors.rendered:
        yield None
        return
    with HttpClient(colors.url(beside), settings.gate.request_timeout) as client:
        yield client


@pytest.fixture(scope="session")
def live_release(cutover_session: CutoverSession, target: Target) -> Iterator[LiveRelease | None]:
    """The release that users have, asked on its color without the proxy; None if it is the target."""
    colors = cutover_session.colors
    live = colors.live.color if colors else None
    is_target = target.through_proxy or live == target.color
    if colors is None or live is None or is_target or live not in colors.rendered:
        yield None
        return
    from cutover.gate.compare_run import LiveRelease  # 20 ms that a gate of the live color does not need

    with HttpClient(colors.url(live), cutover_session.settings.gate.request_timeout) as client:
        yield LiveRelease(live, client, cutover_session.live_tag)


@pytest.fixture(scope="session")
def compare_requests(
    cutover_session: CutoverSession, live_release: LiveRelease | None
) -> list[CompareRequest]:
    """The requests by which the target is compared with what users have; override it to choose your own."""
    if live_release is None:
        return []
    from cutover.release.compare import known_requests

    say = partial(cutover_session.release().report.line, "T-10m", "compare", outcome="unknown")
    return known_requests(cutover_session.settings, live_release.http, say)


def _http_options(settings: Settings, target: Target) -> tuple[str, float, str | bool]:
    """Base URL, timeout in seconds, and TLS verification."""
    verify = settings.proxy.tls_verify if settings.proxy and target.through_proxy else True
    return target.base_url, settings.gate.request_timeout, verify


@pytest.fixture(scope="session")
def docker_client() -> DockerClient:
    """The client of the docker SDK."""
    return docker.client()


@pytest.fixture(scope="session")
def container(target: Target) -> Container:
    """The target's container as the Docker engine describes it now."""
    return _container_of(target)


@pytest.fixture(scope="session")
def sibling_containers(cutover_session: CutoverSession, target: Target) -> tuple[Container, ...]:
    """The containers of the target's other `services` and replicas, which are one release with it."""
    others, nodes = cutover_session.settings.services[1:], nodes_of(cutover_session.settings.platform)
    first = [_container_of(replace(target, service=each)) for each in others]
    further = [docker.replicas(target.project or "", each)[1:] for each in (target.service, *others)]
    try:
        elsewhere = [nodes.replicas(target.project or "", each) for each in (target.service, *others)]
    except EngineUnavailable as error:  # its node was asked before
        raise NotAnswered(str(error)) from None
    return (*first, *chain(*further), *chain(*elsewhere))


def _container_of(target: Target) -> Container:
    if target.project is None:
        raise pytest.UsageError(f"{target.name} is a plain URL: it has no container here")
    found = docker.the_container(target.project, target.service)
    if found is None:
        pytest.fail(f"no container of {target.service} in project {target.project}", pytrace=False)
    return found


@pytest.fixture(scope="session")
def container_host(container: Container) -> Any:
    """A testinfra host inside the target's container."""
    import testinfra

    return testinfra.get_host(f"docker://{container.id}")


# --- what is expected of it ------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def log_baselines(cutover_session: CutoverSession, target: Target) -> Mapping[str, LogWindow]:
    """Service → the log of the container that ran on this color before; services without one are missing."""
    return cutover_session.baselines(target)


@pytest.fixture(scope="session")
def expected_tag(target: Target) -> str | None:
    """The tag that the target should run, None if it is unknown."""
    return target.tag


@pytest.fixture(scope="session")
def expected_identity(cutover_session: CutoverSession, target: Target) -> ExpectedIdentity:
    """The identity that the target should have: image, container, configuration, port."""
    record = cutover_session.release().tx.record
    return identity_of_target(cutover_session.settings, target, record)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    """One of the `[[endpoints]]`; the test runs once for each."""
    found: Endpoint = request.param
    return found


# --- the watch -------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def watch_checks(cutover_session: CutoverSession, target: Target) -> list[WatchCheck]:
    """The checks of the watch; override it to add your own."""
    return cutover_session.watch_checks(target)


@pytest.fixture(scope="session")
def watch_result(
    request: pytest.FixtureRequest,
    cutover_session: CutoverSession,
    target: Target,
    watch_checks: list[WatchCheck],
) -> WatchResult:
    """The result of the whole watch, or of the watch until the first sure no."""
    if cutover_session.request.switch:
        request.getfixturevalue("switch")
    return cutover_session.watch(target, watch_checks)


@pytest.fixture
def watch_check_name(request: pytest.FixtureRequest) -> str:
    """The name of one check of the watch; the test runs once for each."""
    return str(request.param)


# --- verdicts --------------------------------------------------------------------------------------------------------
@pytest.fixture
def assert_verdict(request: pytest.FixtureRequest, cutover_session: CutoverSession) -> AssertVerdict:
    """Records verdicts as evidence; fails the test on a no, and on an unknown with NotAnswered."""
    begun = time.monotonic()

    def expect(verdicts: Verdict | Iterable[Verdict] | Asks) -> None:
        checks = cutover_session.settings.checks
        if isinstance(verdicts, Mapping):
            given = _ask(verdicts, checks)
        else:
            given = [verdicts] if isinstance(verdicts, Verdict) else list(verdicts)
        _record_and_assert(cutover_session, request.node, given, time.monotonic() - begun)

    return expect


def _ask(asks: Asks, checks: Checks) -> list[Verdict]:
    """The verdicts of *asks* until one decides against the target; what is off is not asked."""
    found = list[Verdict]()
    for name, ask in asks.items():
        if name in checks.off:
            found.append(not_asked(name, OFF))
            continue
        answer = ask()
        given = [answer] if isinstance(answer, Verdict) else list(answer)
        found += given
        if any(_as_configured(each, checks).outcome in {Outcome.NO, Outcome.UNKNOWN} for each in given):
            break
    return found


def _record_and_assert(
    session: CutoverSession, item: pytest.Item, given: list[Verdict], seconds: float
) -> None:
    row, param = session.checklist.rows.get(item.nodeid), param_of(item)
    found = [_as_configured(each, session.settings.checks) for each in given]
    if row is not None:
        row.recorded |= {each.outcome for each in found}
    for verdict in found:
        session.evidence.check(item.nodeid, param.name if param else "", stage_of(item), verdict, seconds)
    text = {outcome: "\n".join(str(each) for each in found if each.outcome is outcome) for outcome in Outcome}
    if text[Outcome.NO]:
        pytest.fail(text[Outcome.NO], pytrace=False)
    if text[Outcome.UNKNOWN]:
        raise NotAnswered(text[Outcome.UNKNOWN])
    if text[Outcome.YES] or row is None:
        return
    reason = found[0].reason if found else "nothing to ask"
    if found != given:  # the test goes on: what it expects later still decides
        row.reported = row.reported or reason
        return
    session.checklist.leave_out(item.nodeid, reason)
    pytest.skip(f"not asked: {reason}")


def _as_configured(verdict: Verdict, checks: Checks) -> Verdict:
    """*verdict* as `[checks]` lets it count."""
    if verdict.question in checks.off:
        return not_asked(verdict.question, OFF)
    if verdict.question in checks.report_only and verdict.outcome in {Outcome.NO, Outcome.UNKNOWN}:
        return verdict.reported("[checks] report_only")
    return verdict

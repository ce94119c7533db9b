"""The command line: our options, the request that they mean, its settings and its lock; what is refused."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cutover.core.target import ReleaseRequest, empty_fault, tag_fault, url_problem
from cutover.core.text import without_codes

if TYPE_CHECKING:
    from cutover.core.config import Settings
    from cutover.system.compose import Rendered

ASKED_AT = pytest.StashKey[float]()
REQUEST = pytest.StashKey[ReleaseRequest | None]()
"""The command line, parsed once."""
SETTINGS = pytest.StashKey["Settings"]()
LOCK = pytest.StashKey[int]()
"""The session lock, held until pytest ends."""
FIXTURES = frozenset({
    "assert_verdict", "compare_requests", "container", "container_host", "control_probe", "cutover_config",
    "cutover_http", "cutover_session", "deploy", "docker_client", "endpoint", "evidence", "expected_identity",
    "expected_tag", "http_client", "live_release", "log_baselines", "other_http", "rollback", "sibling_containers",
    "switch", "target", "watch_check_name", "watch_checks", "watch_result",
})  # fmt: skip
"""The fixtures of `cutover.plugin.fixtures`, by name, because that module is imported only with --target."""

NEEDS = (
    "container", "version", "endpoints", "proxy", "dependencies", "alerts", "tls", "database", "color", "compare",
)  # fmt: skip
SELECTING_OPTIONS = {
    "keyword": "-k",
    "markexpr": "-m",
    "deselect": "--deselect",
    "ignore": "--ignore",
    "ignore_glob": "--ignore-glob",
    "lf": "--lf",
    "failedfirst": "--ff",
    "stepwise": "--sw",
    "stepwise_skip": "--sw-skip",
    "stepwise_reset": "--sw-reset",
    "reruns": "--reruns",
    "setuponly": "--setup-only",
    "noconftest": "--noconftest",  # the checks of a team are there
}
SELECTING_INI = ("python_files", "python_classes", "python_functions", "norecursedirs", "testpaths")
ONE_SESSION = "a release is one process: it holds one lock and writes one report"
FOREIGN_OPTIONS = {
    "numprocesses": ("-n", ONE_SESSION, "-n0"),
    "tx": ("--tx", ONE_SESSION, "-n0"),
    "looponfail": ("--looponfail", ONE_SESSION, ""),
    "cov_fail_under": ("--cov-fail-under", "a release is decided by its checks, not by coverage", "--no-cov"),
}
"""Options of other plugins: attribute -> its name, why it is refused, and what turns off one from addopts."""
LOOKING_OPTIONS = (
    "collectonly", "setupplan", "showfixtures", "show_fixtures_per_test", "markers", "cacheshow",
)  # fmt: skip


OPTIONS = (
    ("--target", "T", "blue, green, live, idle or a URL; repeatable for gates, exactly one with --deploy or --switch"),
    ("--deploy", "TAG", "deploy this image tag to the target first; keep it only if every check passes"),
    ("--switch", "",
     ("after the gate: switch the traffic to the target, verify it, gate again through the proxy, watch; "
      "switch back if anything fails")),
    ("--expect", "TAG",
     "the tag that the targets should serve, of a gate or a watch; another one fails the check of the version"),
    ("--watch", "DURATION", "how long checks/ run, like 15m; default: [watch] duration"),
    ("--hold", "DURATION",
     "what passed everything stays open so long, like 30m: cutover confirm keeps it, else it is reverted"),
    ("--on-hosts", "HOSTS",  # pytest-testinfra has an option --hosts
     "release on servers of [hosts] by ssh (all, or names with commas): stage all, switch in batches, confirm"),
    ("--keep-on-failure", "", "report only: keep what was changed, also when a check fails"),
    ("--plan", "", "print what would be done and undone; change nothing; exit 0"),
    ("--cutover-config", "FILE", "another cutover.toml; default: cutover.toml, then deploy/cutover.toml"),
    ("--allow-no-rollback", "", "release although what runs now could not be restored"),
    ("--skip-migrations", "", "do not migrate the schema: an older release cannot upgrade it"),
    ("--allow-breaking-migration", "", "migrate although the old release was not verified on the new schema"),
)  # fmt: skip
"""Name, value (empty: a flag) and help of each option."""


def add_options(parser: pytest.Parser) -> None:
    """Add the options of a release."""
    group = parser.getgroup("cutover", "release a Docker Compose service: gate, deploy, switch, revert")
    for name, value, text in OPTIONS:
        action = "append" if name == "--target" else "store" if value else "store_true"
        group.addoption(name, action=action, help=text, **({"metavar": value} if value else {}))


def parse_request(config: pytest.Config) -> ReleaseRequest | None:
    """What the command line asks for, None without --target; raises UsageError."""
    option = config.option
    targets = tuple(option.target or ())
    armed = [name for name in ("--deploy", "--switch", "--plan") if getattr(option, name[2:])]
    for problem in _refusals(config, targets, armed):
        raise pytest.UsageError(problem)
    if not targets:
        return None
    return ReleaseRequest(
        targets,
        deploy=option.deploy,
        expect=option.expect,
        switch=bool(option.switch),
        watch_s=_seconds("--watch", option.watch),
        hold_s=_seconds("--hold", option.hold),
        paths=(*(["--pyargs"] if option.pyargs else []), *config.args),
        rollback=not option.keep_on_failure,
        allow_no_rollback=option.allow_no_rollback,
        migrate=not option.skip_migrations,
        allow_breaking_migration=option.allow_breaking_migration,
        hosts=option.on_hosts or "",
        plan=option.plan,
        asked_at=config.stash.get(ASKED_AT, None),
    )


def _refusals(config: pytest.Config, targets: Sequence[str], armed: Sequence[str]) -> Iterator[str]:
    """Why the command line is refused; the first reason counts."""
    option = config.option
    for name, _, _ in OPTIONS:
        given = getattr(option, name[2:].replace("-", "_"))
        values = given if isinstance(given, list) else [given]
        if any(isinstance(each, str) and not each.strip() for each in values):
            yield empty_fault(name)
    if option.on_hosts is not None and not (targets == ("idle",) and option.deploy and option.switch):
        yield "--on-hosts needs --target=idle, --deploy=TAG and --switch"
    if option.on_hosts is not None and option.keep_on_failure:
        yield "--on-hosts with --keep-on-failure: the hosts would not serve one release"
    if armed and not targets:
        yield f"{armed[0]} needs --target=blue, green, live or idle"
    yield from _tag_refusals(option, targets, armed)
    if targets:
        yield from _target_refusals(option, targets, armed)
    if armed and not only_looks(config):
        for name in selections(config):
            yield f"{name} with {armed[0]}: a release is decided by a whole checklist; leave it out"
        for argument in partial_paths(config):
            yield f"{argument} with {armed[0]}: name a folder like smoke, not single files or tests"


def _tag_refusals(option: argparse.Namespace, targets: Sequence[str], armed: Sequence[str]) -> Iterator[str]:
    for name, tag in (("--deploy", option.deploy), ("--expect", option.expect)):
        if tag is not None and (fault := tag_fault(tag)):
            yield f"{name}: {fault}"
    if option.expect and not targets:
        yield "--expect needs --target: a URL, blue, green, live or idle"
    if option.expect and armed:
        yield f"--expect with {armed[0]}: a release expects the tag that it deploys; leave it out"


def _target_refusals(
    option: argparse.Namespace, targets: Sequence[str], armed: Sequence[str]
) -> Iterator[str]:
    coded = (each for each in targets if without_codes(each) != each)
    yield from (f"--target={each!r}: control characters are not allowed" for each in coded)
    if armed and len(targets) != 1:
        yield f"{armed[0]} needs exactly one --target, got {', '.join(targets)}"
    if option.hold and not (option.deploy or option.switch):
        yield "--hold needs --switch, or --deploy to the live color: a gate holds nothing"
    if option.hold and option.keep_on_failure:
        yield "--hold with --keep-on-failure: the one reverts what the other keeps; choose one"
    problems = (url_problem(each) for each in targets if "://" in each)
    yield from (f"--target: {each}" for each in problems if each)
    for attribute, (name, why, off) in FOREIGN_OPTIONS.items():
        is_off = off == "--no-cov" and getattr(option, "no_cov", False)
        if getattr(option, attribute, None) and not is_off:
            way_out = f"leave it out, or add {off} if it comes from addopts" if off else "leave it out"
            yield f"{name} is not for a release: {why}; {way_out}"


def _seconds(name: str, given: str | None) -> float | None:
    if given is None:
        return None
    from cutover.core.config_schema import parse_duration  # imports pydantic, which takes 60 ms

    try:
        seconds = parse_duration(given)
    except ValueError as error:
        raise pytest.UsageError(f"{name}: {error}") from error
    if not seconds:
        raise pytest.UsageError(f"{name}={given}: must be longer than 0s")
    return seconds


def selections(config: pytest.Config) -> list[str]:
    """The options of the command line that select among the tests."""
    given = [name for attribute, name in SELECTING_OPTIONS.items() if getattr(config.option, attribute, None)]
    ini = [each.partition("=")[0].strip() for each in config.option.override_ini or ()]
    return given + [f"-o {key}" for key in ini if key in SELECTING_INI]


def partial_paths(config: pytest.Config) -> list[str]:
    """The arguments that name less than a folder or a package."""
    return [each for each in config.args if _is_part(config, each)]


def _is_part(config: pytest.Config, argument: str) -> bool:
    path = config.invocation_params.dir / argument
    if "::" in argument or argument.endswith(".py") or path.is_file():
        return True
    return bool(config.option.pyargs) and not path.exists() and not _is_package(argument)


def _is_package(name: str) -> bool:
    """Whether *name* is a package; True for one that does not exist, which pytest refuses itself."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return True
    return found is None or found.submodule_search_locations is not None


def only_looks(config: pytest.Config) -> bool:
    """Whether the session only shows something and runs no test (`--collect-only`, `--fixtures`, …)."""
    return any(getattr(config.option, each, False) for each in LOOKING_OPTIONS)


# --- what a release needs before pytest collects -----------------------------------------------------------------
def load_settings(config: pytest.Config, request: ReleaseRequest) -> Settings:
    """`cutover.toml`, read once; for plain URLs the defaults if none is found and none is named."""
    from cutover.core.config import find_config, load_config, url_config
    from cutover.core.errors import ConfigError

    if SETTINGS in config.stash:
        return config.stash[SETTINGS]
    given = config.option.cutover_config
    try:
        path = find_config(given, os.environ, config.invocation_params.dir)
    except ConfigError:
        if given is not None or not request.only_urls:
            raise
        reports = Path(os.environ.get("CUTOVER_REPORTS") or "reports").absolute()
        config.stash[SETTINGS] = url_config().model_copy(update={"reports": reports})
    else:
        config.stash[SETTINGS] = load_config(path, os.environ)
    return config.stash[SETTINGS]


def begin_rendering(config: pytest.Config, request: ReleaseRequest) -> Future[dict[str, Rendered]] | None:
    """Both colors of a gate, which Compose renders while pytest imports and collects; None for other sessions.

    A release renders them once it has the lock and has reverted what a dead session left.
    """
    if request.changes_something or request.only_urls or only_looks(config):
        return None
    from cutover.core.errors import ConfigError
    from cutover.system.compose import render_colors

    try:
        settings = load_settings(config, request)
    except ConfigError:
        return None  # the session tells it
    pool = ThreadPoolExecutor(1)
    rendering = pool.submit(render_colors, settings)
    pool.shutdown(wait=False)
    return rendering


def hold_lock(config: pytest.Config, settings: Settings, request: ReleaseRequest) -> None:
    """Take the session lock, unless this session holds it already; raises Locked."""
    from cutover.release.state import State, lock_owner
    from cutover.system.files import close_lock

    if LOCK not in config.stash:
        state = State(settings.state).prepare()
        config.stash[LOCK] = state.acquire(lock_owner(request.summary), request.asked_at)
        config.add_cleanup(lambda: close_lock(config.stash[LOCK]))

"""The pytest plugin: it adds options; fixtures and hooks are registered only with --target."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Generator, Sequence

import pytest

from cutover.core.target import ReleaseRequest
from cutover.plugin import hookspecs, options


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks that other plugins may implement."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    options.add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests() -> Generator[None, None, None]:
    """Refuse a conftest that ends the process: with SystemExit(0) pytest would pass without a test or a word."""
    try:
        yield
    except SystemExit as error:
        raise pytest.UsageError(f"a conftest ended the session with SystemExit({error.code!r})") from error


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Take the lock of a release first: a session that finds it taken ends at once, with exit code 12."""
    config.stash[options.ASKED_AT] = time.monotonic()
    request = _parsed_request(config)
    # The hosts of a release each have a lock of their own.
    if request is None or request.hosts or not request.changes_something:
        return None
    if request.plan or options.only_looks(config):
        return None
    # Imported here, as below, because it is slow and not needed in other pytest sessions of the environment.
    from cutover.core.errors import ConfigError, Locked
    from cutover.plugin.console import LastingStream, look_of_terminal
    from cutover.report.terminal import refused_lines

    try:
        options.hold_lock(config, options.load_settings(config, request), request)
    except Locked as locked:
        out = LastingStream(sys.stdout)  # pytest's own terminal does not exist yet
        lines = refused_lines("LOCKED", str(locked), locked.exit_code, look_of_terminal())
        out.write("\n".join([*lines, ""]))
        out.flush()
        return locked.exit_code
    except ConfigError as problem:
        raise pytest.UsageError(str(problem)) from problem
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; with --target also the fixtures and the hooks of a release."""
    needs = f"what the test must be able to ask, else it is not asked: {', '.join(options.NEEDS)}"
    config.addinivalue_line("markers", f"requires(*needs): {needs}")
    config.addinivalue_line("markers", "asks(*names): its checks; if [checks] off lists all, it does not run")
    request = _parsed_request(config)
    if request is None:
        return
    collects = gc.isenabled()
    gc.disable()  # what is imported stays, so a collection would find nothing
    try:
        rendering = options.begin_rendering(config, request)
        from cutover.plugin import fixtures, hooks
        from cutover.plugin.session import SESSION, CutoverSession

        gc.freeze()
    finally:
        if collects:
            gc.enable()
    session = CutoverSession.create(config, request, rendering)
    config.stash[SESSION] = session
    config.add_cleanup(session.close)
    if request.hosts and (request.plan or not options.only_looks(config)):
        from cutover.plugin.hosts import register_coordinator

        register_coordinator(session)
        return
    config.pluginmanager.register(fixtures, "cutover-fixtures")
    hooks.register_hooks(session)


def _parsed_request(config: pytest.Config) -> ReleaseRequest | None:
    """None without a target, in a worker of xdist, and for --help and --version."""
    if hasattr(config, "workerinput") or config.option.help or getattr(config.option, "version", 0):
        return None
    if options.REQUEST not in config.stash:
        config.stash[options.REQUEST] = options.parse_request(config)
    return config.stash[options.REQUEST]


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """Refuse a checklist without a target: its fixtures do not exist."""
    if config.stash.get(options.REQUEST, None) is not None or hasattr(config, "workerinput"):
        return
    if any(map(_needs_target, items)):
        raise pytest.UsageError("no target: say --target=blue, green, live, idle or a URL")


def _needs_target(item: pytest.Item) -> bool:
    info = getattr(item, "_fixtureinfo", None)
    if info is None:
        return False
    missing = options.FIXTURES.intersection(info.names_closure) - info.name2fixturedefs.keys()
    spec = getattr(item, "callspec", None)
    return bool(missing - (spec.params.keys() if spec else set()))

"""The pytest plugin: inert until --target is given; then a session of its own takes over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from cutover.plugin import options
from cutover.plugin.fixtures import *  # noqa: F403  # pytest finds fixtures by the plugin's names
from cutover.wish import ReleaseRequest

if TYPE_CHECKING:
    from cutover.plugin.session import Run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """A release asks for its lock before anything else: whoever it turns away need not wait for a session."""
    config.stash[options.ASKED_AT] = time.monotonic()
    request = _wish(config)
    if request is None or not request.changes_something or config.option.plan or options.only_looks(config):
        return None
    from cutover.plugin import locking

    return locking.lock(config, request)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; with --target also the session that releases."""
    config.addinivalue_line(
        "markers",
        f"requires(*needs): what the test must be able to ask, else it is not asked: {', '.join(options.NEEDS)}",
    )
    request = _wish(config)
    if request is None:
        return
    from cutover.plugin.session import Run  # heavy, and of no use without a target

    run = Run.of(config, request)
    config.stash[options.RUN] = run
    run.open()


def _wish(config: pytest.Config) -> ReleaseRequest | None:
    """What is asked for; None for a session without a target, a worker, and one that only explains pytest."""
    if hasattr(config, "workerinput") or config.option.help or getattr(config.option, "version", 0):
        return None
    return options.wish(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let the lock go, whatever happened."""
    run: Run | None = config.stash.get(options.RUN, None)
    if run is not None:
        run.close()


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    """A checklist without a target is a usage error, never a silent pass."""
    if options.RUN in config.stash or hasattr(config, "workerinput"):
        return
    if any("target" in getattr(item, "fixturenames", ()) and _is_ours(item) for item in items):
        raise pytest.UsageError("no target: say --target=blue, green, live, idle or a URL")


def _is_ours(item: pytest.Item) -> bool:
    """Whether the item's `target` fixture is the one of this plugin."""
    info = getattr(item, "_fixtureinfo", None)
    definitions: Sequence[Any] = info.name2fixturedefs.get("target", ()) if info else ()
    return bool(definitions) and definitions[-1].func.__module__ == "cutover.plugin.fixtures"

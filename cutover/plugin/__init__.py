"""The pytest plugin: inert until --target is given; then a session of its own takes over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from cutover.plugin import options
from cutover.plugin.fixtures import *  # noqa: F403  # pytest finds fixtures by the plugin's names

if TYPE_CHECKING:
    from cutover.plugin.session import Run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    options.add(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; with --target also the session that releases."""
    config.stash[options.ASKED_AT] = time.monotonic()
    config.addinivalue_line(
        "markers",
        f"asks(*needs): what the test must be able to ask, else it is not asked: {', '.join(options.NEEDS)}",
    )
    if hasattr(config, "workerinput"):
        return
    wish = options.wish(config)
    if wish is None or config.option.help or getattr(config.option, "version", 0):
        return
    from cutover.plugin.session import Run  # heavy, and of no use without a target

    run = Run.of(config, wish)
    config.stash[options.RUN] = run
    config.pluginmanager.register(run, "cutover-run")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let the lock go, whatever happened."""
    run: Run | None = config.stash.get(options.RUN, None)
    if run is not None:
        run.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each target, endpoint and watched question."""
    run = metafunc.config.stash.get(options.RUN, None)
    if run is not None:
        run.generate(metafunc)


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

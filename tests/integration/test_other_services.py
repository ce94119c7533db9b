"""Ten services that nobody here wrote: taken over while they run, released, reverted and rolled back.

The trials mostly wait, so those that were selected run at the same time, a few at once. One of each kind runs always,
the others with `scripts/test -m slow`.
"""

from __future__ import annotations

import os
import subprocess
import venv
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.helpers.other_services import PAGE, ROWS, Other, Trial, key, make_images, tried, write_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]
AT_ONCE = 2  # other tests run beside them
# No HEALTHCHECK and root; a scratch image; a database with migrations; a worker beside the service; WebSockets.
IN_EACH_RUN = {("httpbin", True), ("registry", False), ("django", False), ("queue", False), ("events", True)}
Trials = dict[tuple[str, bool], Future[Trial]]
WRITE = "CUTOVER_TEST_WRITE_DOCS"


@pytest.fixture(scope="module")
def programs(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a virtual environment in which a user has installed the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    pip = (str(folder / "bin" / "pip"), "install", "--quiet", "--no-index", "--find-links", str(wheels))
    subprocess.run((*pip, "pytest-cutover"), check=True, capture_output=True, timeout=300)
    return folder / "bin"


@pytest.fixture(scope="module")
def trials(
    request: pytest.FixtureRequest, programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trials]:
    """The trials of all selected tests, running."""
    chosen: list[tuple[Other, bool]] = [
        (item.callspec.params["other"], item.callspec.params["proxied"])  # type: ignore[misc]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item, "callspec")
    ]
    make_images([other for other, _ in chosen])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {
            (other.name, two): pool.submit(
                tried, other, tmp_path_factory.mktemp("trial"), programs, proxied=two
            )
            for other, two in chosen
        }
        yield running
    if os.environ.get(WRITE):
        write_page(each.result() for each in running.values() if each.exception() is None)


@pytest.mark.parametrize(
    ("other", "proxied"),
    [
        pytest.param(
            other,
            two,
            id=f"{other}-{'blue-green' if two else 'in-place'}",
            marks=() if (other.name, two) in IN_EACH_RUN else pytest.mark.slow,
        )
        for other, two in ROWS
    ],
)
def test_is_taken_over_released_reverted_and_rolled_back(trials: Trials, other: Other, proxied: bool) -> None:
    """A service that runs gets to its first gated release with at most 12 lines; then a good, a bad, and a rollback."""
    trial = trials[other.name, proxied].result()
    assert trial.config_lines <= 12, (trial.folder / "cutover.toml").read_text()


def test_the_page_has_every_trial() -> None:
    """docs/compose.md has a row for each trial; with CUTOVER_TEST_WRITE_DOCS=1 the trials of a run write theirs."""
    text = PAGE.read_text(encoding="utf-8")
    assert [key(other, proxied=two) for other, two in ROWS if key(other, proxied=two) not in text] == []

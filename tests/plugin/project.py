"""A project without an engine: real shell files, real locks and guards, and a change that is one file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGINS = (
    "-p", "cutover.plugin", "-p", "pytest_html.plugin", "-p", "pytest_metadata.plugin", "-p", "pytest_timeout",
)  # fmt: skip
PATIENCE_S = 60.0
TOML = """\
project = "trap"
reports = "reports"
state_dir = "{state}"
[colors.blue]
env_file = ".env.blue"
[colors.green]
env_file = ".env.green"
"""
COMPOSE = """\
services:
  api:
    image: none/api:${IMAGE_TAG:?}
    ports: ["127.0.0.1:${API_HTTP_PORT:?}:8000"]
"""
# The deploy of these tests: one change whose do makes a file and whose undo removes it, under the real lock.
CONFTEST = """\
import pytest
from cutover.core.change import Change, line

@pytest.fixture(scope="session")
def deploy(cutover_session):
    tx = cutover_session.release().tx
    cutover_session.hold_lock()
    done = tx.apply(Change("mark", "a file", ("touch", {mark!r}), (line("rm", "-f", {mark!r}),), 10.0))
    assert done.ok, done
    return "sha-2"
"""
LOOKING = (
    "--collect-only", "--fixtures", "--fixtures-per-test", "--setup-plan", "--markers", "--help", "--version",
)  # fmt: skip
"""Options of pytest that only show something."""
GOOD = "def test_good(target):\n    assert target.color == 'green'\n"


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a cutover.toml, its state beside it, and the file that a release makes."""

    folder: Path
    state: Path
    mark: Path

    @classmethod
    def at(cls, root: Path) -> Project:
        """A new project below *root*."""
        made = cls(root / "repo", root / "state" / "trap", root / "mark")
        (made.folder / "gate").mkdir(parents=True)
        (made.folder / "cutover.toml").write_text(TOML.format(state=made.state))
        (made.folder / "docker-compose.yml").write_text(COMPOSE)
        (made.folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
        (made.folder / "gate" / "conftest.py").write_text(CONFTEST.format(mark=str(made.mark)))
        for number, color in enumerate(("blue", "green")):
            path = made.folder / f".env.{color}"
            path.write_text(f"IMAGE_TAG=sha-1\nAPI_HTTP_PORT={18000 + number}\n")
            path.chmod(0o600)
        return made

    def test(self, text: str, name: str = "test_gate.py") -> None:
        """Write a test file of the gate."""
        (self.folder / "gate" / name).write_text(text)

    def environment(self, **more: str) -> dict[str, str]:
        """No engine, no foreign plugins."""
        dropped = {"PYTEST_ADDOPTS", "GITHUB_STEP_SUMMARY"}
        kept = {
            key: value
            for key, value in os.environ.items()
            if key not in dropped and not key.startswith("CUTOVER_")
        }
        return kept | {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "DOCKER_HOST": f"unix://{self.folder}/no.sock",
            "PYTHONPATH": str(REPOSITORY), "CUTOVER_WHO": "ana",
        } | more  # fmt: skip

    def words(self, *arguments: str) -> tuple[str, ...]:
        """A session on green."""
        return (sys.executable, "-m", "pytest", *PLUGINS, "gate", "--target=green", *arguments)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a session to its end."""
        return subprocess.run(
            self.words(*arguments), cwd=self.folder, env=self.environment(**environment), text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False, start_new_session=True,
        )  # fmt: skip

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a session in a process group of its own."""
        return subprocess.Popen(
            self.words(*arguments), cwd=self.folder, env=self.environment(), text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    @property
    def is_open(self) -> bool:
        """Whether a release is open."""
        return (self.state / "open").exists()


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until it is true; the guard is another process, nobody tells when it is done."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.02)

"""The plugin in an environment in which nobody releases."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def test_a_session_without_a_target_loads_nothing_heavy() -> None:
    """Every pytest session of an environment loads the plugin: settings, HTTP and Docker are for those who release."""
    script = (
        "import sys, pytest, cutover.plugin\n"
        "print(sorted({'pydantic', 'httpx', 'docker', 'testinfra', 'click', 'hvac'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


PLAIN = """
import pytest

@pytest.fixture
def container():
    return "a team's own"

def test_own(container):
    assert container == "a team's own"
"""


def session_in(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A session that loads the plugin, with *text* as its only test file."""
    (folder / "test_plain.py").write_text(text)
    argv = (sys.executable, "-m", "pytest", "-p", "cutover.plugin", "-p", "no:cacheprovider", *arguments)
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_session_without_a_target_has_no_fixture_of_ours(tmp_path: Path) -> None:
    """Generic names like `container` or `deploy` stay free for the other tests of an environment."""
    done = session_in(tmp_path, PLAIN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "cutover"
        not in session_in(tmp_path, PLAIN, "--fixtures", "-v").stdout.split("fixtures defined", 1)[1]
    )


@pytest.mark.parametrize("name", ["target", "assert_verdict", "http_client"])
def test_a_checklist_without_a_target_is_refused(tmp_path: Path, name: str) -> None:
    """One line that says what is missing, and exit code 4, instead of an error for each test."""
    done = session_in(tmp_path, f"def test_a({name}):\n    pass\n")
    assert done.returncode == 4, done.stdout + done.stderr
    assert "no target: say --target=" in done.stdout + done.stderr


def test_a_parameter_of_that_name_is_no_fixture_of_ours(tmp_path: Path) -> None:
    """`target` is a common name for a parameter too."""
    text = "import pytest\n@pytest.mark.parametrize('target', [1])\ndef test_a(target):\n    assert target\n"
    done = session_in(tmp_path, text)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_names_of_the_fixtures_are_known_without_them() -> None:
    """`options.FIXTURES` lists them, because the module that defines them is not imported without a target."""
    script = (
        "from cutover.plugin import fixtures, options\n"
        "from _pytest.fixtures import FixtureFunctionDefinition as Fixture\n"
        "made = {name for name, each in vars(fixtures).items() if isinstance(each, Fixture) and name[0] != '_'}\n"
        "print(sorted(made ^ options.FIXTURES))\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"

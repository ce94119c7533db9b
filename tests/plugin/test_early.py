"""What breaks before the first test, or leaves none, changes nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.plugin.project import GOOD, Project

# what is wrong: (arguments, what the plugin `foreign` says, pytest's own exit code, what it says in one line)
EARLY: dict[str, tuple[tuple[str, ...], str, int, str]] = {
    "a bad path": (("nowhere",), "", 4, "ERROR: file or directory not found: nowhere"),
    "an unknown option": (("gate", "--no-such-option"), "", 4, "error: unrecognized arguments: --no-such-option"),
    "a bad node id": (("gate/test_gate.py::test_none",), "", 4, "ERROR: not found: "),
    "a plugin that is missing": (("gate", "-p", "no_such_plugin"), "", 4, 'Error importing plugin "no_such_plugin"'),
    "a bad choice": (("gate", "--color=blue"), "", 4, "invalid choice: 'blue'"),
    "workers": (("gate", "-p", "xdist", "-n2"), "", 4, "ERROR: -n is not for a release"),
    "workers by another name": (("gate", "-p", "xdist", "--dist=load", "--tx=2*popen"), "", 4, "ERROR: --tx is not for a release"),
    "an unwritable report": (
        ("gate", "--html=/proc/none/x.html"), "", 4,
        "ERROR: --html=/proc/none/x.html cannot be written: No such file or directory",
    ),
    "an unwritable JUnit file": (
        ("gate", "--junitxml=/proc/none/x.xml"), "", 4,
        "ERROR: --junitxml=/proc/none/x.xml cannot be written: No such file or directory",
    ),
    "a report that is a folder": (("gate", "--html=gate"), "", 4, "ERROR: --html=gate: it is a folder, and must be a file"),
    "a plugin's import": (("gate", "-p", "foreign"), "import nothing_here\n", 3, "ModuleNotFoundError: "),
    **{
        hook: (("gate", "-p", "foreign"), f"def {hook}({argument}):\n    raise ValueError('x')\n", code, "ValueError: x")
        for hook, argument, code in (
            ("pytest_configure", "config", 3), ("pytest_sessionstart", "session", 3),
            ("pytest_collection_modifyitems", "items", 3), ("pytest_generate_tests", "metafunc", 2),
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", EARLY)
def test_what_breaks_early_changes_nothing(project: Project, name: str) -> None:
    """What pytest refuses, or a broken plugin of its environment breaks, ends before a service is touched."""
    arguments, foreign, code, said = EARLY[name]
    project.test(GOOD)
    (project.folder / "foreign.py").write_text(foreign)
    environment = project.environment()
    environment["PYTHONPATH"] = f"{project.folder}:{environment['PYTHONPATH']}"
    argv = (*project.words()[: -len(("gate", "--target=green"))], "--target=green", *arguments)
    done = subprocess.run(
        argv, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert not project.mark.exists()
    assert not project.state.exists()


@pytest.mark.parametrize(
    "text", ["import nothing_here\n", "def pytest_configure(config):\n    raise ValueError('x')\n"]
)
def test_an_installed_plugin_that_breaks_changes_nothing(project: Project, text: str) -> None:
    """A plugin that nobody named, but that is installed, breaks pytest before any hook of ours."""
    project.test(GOOD)
    (project.folder / "foreign.py").write_text(text)
    metadata = project.folder / "foreign-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[pytest11]\nforeign = foreign\n")
    path = f"{project.folder}:{project.environment()['PYTHONPATH']}"
    argv = (sys.executable, "-m", "pytest", "gate", "--target=green")
    done = subprocess.run(
        argv, cwd=project.folder, env=project.environment(PYTHONPATH=path, PYTEST_DISABLE_PLUGIN_AUTOLOAD=""),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode not in {0, 4, 5}, done.stdout + done.stderr
    assert "foreign.py" in done.stdout + done.stderr
    assert not project.mark.exists()
    assert not project.is_open


@pytest.mark.parametrize("text", ["import nothing_here\n", "def test_b(:\n"])
def test_a_collection_error_changes_nothing(project: Project, text: str) -> None:
    """A checklist that cannot be read is no verdict on the service."""
    project.test(GOOD)
    project.test(text, "test_broken.py")
    assert project.run().returncode == 2
    assert not project.mark.exists()


def test_a_broken_conftest_changes_nothing(project: Project) -> None:
    """Exit 4, before any session."""
    project.test(GOOD)
    (project.folder / "gate" / "conftest.py").write_text("import nothing_here\n")
    assert project.run().returncode == 4
    assert not project.mark.exists()


def test_no_test_is_no_proof(project: Project) -> None:
    """An empty checklist ends with 5 and changes nothing."""
    assert project.run().returncode == 5
    assert not project.mark.exists()

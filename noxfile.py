"""The steps of a developer; all but `lowest` and `newest` run in the environment that has nox (.venv).

`nox -l` lists them. scripts/test creates .venv, and runs `lint` before pytest.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

from scripts.prepare import WHOLE_RUN

ROOT = Path(__file__).parent
SHELL_FOLDERS = ("scripts", "cutover", "deploy", "examples", ".ci")
# What the tests of `lowest` and `newest` import beside the dependencies.
VERSION_TOOLS = ("hvac", "hypothesis", "opentelemetry-sdk", "pytest-xdist")
SHEBANG = re.compile(rb"#!.*\b(?:ba|da)?sh\b")
nox.options.sessions = ["lint", "tests"]
# The pinned tools come first, also where .venv is not activated.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def shell_files(root: Path) -> list[str]:
    """Every shell script below the folders that have some, by its name or its first line."""
    files = (path for folder in SHELL_FOLDERS for path in (root / folder).rglob("*") if path.is_file())
    return sorted(
        str(path) for path in files if path.suffix == ".sh" or SHEBANG.match(path.read_bytes()[:64])
    )


def linters(root: Path) -> list[tuple[str, ...]]:
    """The command line of each linter, the fastest first."""
    workflows = root / ".github" / "workflows"
    audit = [("zizmor", "--offline", "--quiet", str(workflows))] if workflows.is_dir() else []
    return [
        ("ruff", "check", "--quiet", "--output-format=concise", "."),
        ("ruff", "format", "--check", "--quiet", "--output-format=concise", "."),
        ("shellcheck", "--external-sources", *shell_files(root)),
        *audit,
        ("lint-imports", "--no-cache", "--no-logo"),
        ("mypy", "--no-error-summary"),
    ]


@nox.session(python=False)
def lint(session: nox.Session) -> None:
    """Run every linter, also after one has found something."""
    failed = []
    for argv in linters(ROOT):
        try:
            session.run(*argv, log=False)
        except CommandFailed:
            failed.append(argv[0])
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session(python=False)
def tests(session: nox.Session) -> None:
    """Run pytest: nox -s tests -- [pytest arguments]."""
    session.run(sys.executable, "-m", "pytest", *(session.posargs or WHOLE_RUN))


@nox.session(python=False)
def lowest(session: nox.Session) -> None:
    """Run the tests without an engine on the lowest versions that pyproject.toml allows."""
    run_with_versions(session, "lowest-direct")


@nox.session(python=False)
def newest(session: nox.Session) -> None:
    """Run the tests without an engine on the newest versions, whatever constraints.txt pins."""
    run_with_versions(session, "highest")


def run_with_versions(session: nox.Session, resolution: str) -> None:
    """Resolve the dependencies so, install them in build/RESOLUTION, and run the unit and plugin tests there."""
    folder = ROOT / "build" / resolution
    python, pins = str(folder / "bin" / "python"), str(folder / "pins.txt")
    session.run("uv", "venv", "--quiet", "--clear", f"--python={sys.executable}", str(folder))
    resolve = ("uv", "pip", "compile", "--quiet", "--no-annotate", f"--resolution={resolution}")
    session.run(*resolve, f"--python={python}", f"--output-file={pins}", "pyproject.toml")
    install = ("uv", "pip", "install", "--quiet", f"--python={python}", f"--requirements={pins}")
    session.run(*install, *VERSION_TOOLS, f"--editable={ROOT}")
    no_browser = (
        "--ignore=tests/unit/report/test_browser.py"  # it would be skipped: playwright is not installed
    )
    tests = session.posargs or (*WHOLE_RUN, "-m", "not engine", no_browser, "tests/unit", "tests/plugin")
    session.run(python, "-m", "pytest", *tests)


@nox.session(python=False)
def docs(session: nox.Session) -> None:
    """Build the site from docs/ in build/site; a broken link is an error."""
    argv = ("mkdocs", "build", "--strict", "--quiet", "--config-file", "docs/dev/mkdocs.yml")
    session.run(*argv, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(python=False)
def demo(session: nox.Session) -> None:
    """Release the example service and revert it: nox -s demo -- [--proxy=traefik]."""
    session.run(sys.executable, "-m", "examples.demo", *session.posargs)


@nox.session(python=False)
def bench(session: nox.Session) -> None:
    """Run one benchmark and write its section: nox -s bench -- overhead [arguments]."""
    if not session.posargs:
        session.error(
            "name one: " + ", ".join(sorted(path.stem[6:] for path in ROOT.glob("benchmarks/bench_*.py")))
        )
    name, *arguments = session.posargs
    session.run(sys.executable, "-m", f"benchmarks.bench_{name}", *arguments)


@nox.session(python=False)
def lock(session: nox.Session) -> None:
    """Pin the newest versions, with hashes: constraints.txt for developers, requirements.txt for servers."""
    compile_pins = ("uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate")
    header = ("--custom-compile-command", "nox -s lock")
    session.run(
        *compile_pins, *header, "--upgrade", "--extra=dev", "--output-file=constraints.txt", "pyproject.toml"
    )
    # From the pins of the tests, without the packages that only developers need.
    server = ("--group=server", "--constraints=constraints.txt", "--output-file=requirements.txt")
    session.run(*compile_pins, *header, *server, "pyproject.toml")

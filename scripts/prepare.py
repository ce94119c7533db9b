"""Prepare the machine for scripts/test or scripts/demo, then become that command.

Started by any Python from 3.7 on, so nothing newer is used before `main` has found Python 3.11.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.system import SetupError, apt_install, can_install, manual_install, must_run, run, step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
PYTHON = str(BIN / "python")
STAMP = ROOT / ".venv" / "made-from"
PYTHON_NAMES = ("python3.14", "python3.13", "python3.12", "python3.11")
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
# Debian packages for the tests, by a program that each provides.
TEST_PACKAGES = {
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "socat": "socat",
    "chromium": "chromium",
    "ssh": "openssh-client",
    "curl": "curl",
    "wget": "wget",
    "npm": "npm",
}
# The tests mostly wait, so run two files at a time. Keep the file order: the last files are short.
# The weekly run of CI adds `scripts/test -m slow`.
WHOLE_RUN = (
    "-n",
    "2",
    "--dist",
    "loadfile",
    "--no-loadscope-reorder",
    "--durations=20",
    "--durations-min=10",
    "-m",
    "not slow",
)
USAGE = "usage: python3 -m scripts.prepare engine | test [pytest arguments] | demo [arguments]"


def starts(python: str) -> bool:
    """Whether *python* runs; a pyenv shim exists also for versions that are not installed."""
    return subprocess.call([python, "-c", ""], stderr=subprocess.DEVNULL) == 0


def find_python(
    version: Sequence[object],
    which: Callable[[str], str | None] = shutil.which,
    works: Callable[[str], bool] = starts,
) -> str | None:
    """This Python if its *version* is 3.11 or newer, else the first such one in PATH, else None."""
    if tuple(version[:2]) >= (3, 11):
        return sys.executable
    found = (which(name) for name in PYTHON_NAMES)
    return next((path for path in found if path and works(path)), None)


def wanted_stamp(root: Path) -> str:
    """Stamp of a virtual environment created now: path and Python version, then a hash of the pinned versions."""
    texts = [(root / name).read_bytes() for name in ("constraints.txt", "pyproject.toml")]
    pins = hashlib.sha256(b"".join(texts))
    return f"{root} Python {'.'.join(map(str, sys.version_info[:3]))}\n{pins.hexdigest()}\n"


def ensure_venv() -> None:
    """Ensure that .venv has the pinned packages and this project; do nothing if the stamp is unchanged."""
    wanted = wanted_stamp(ROOT)
    found = STAMP.read_text(encoding="utf-8") if STAMP.exists() else ""
    works = run(PYTHON, "-c", "import pip, pytest", timeout=60).returncode == 0
    if works and found == wanted:
        return
    if not works or found.partition("\n")[0] != wanted.partition("\n")[0]:
        if run(sys.executable, "-c", "import ensurepip", timeout=60).returncode:
            apt_install("python3-venv")
        with step(f"venv: creating .venv with {sys.executable}"):
            must_run(sys.executable, "-m", "venv", "--clear", str(BIN.parent), timeout=300)
    STAMP.unlink(missing_ok=True)
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check")
    with step("venv: installing the pinned packages"):
        must_run(*pip, "--no-compile", "--require-hashes", "-r", str(ROOT / "constraints.txt"), timeout=1200)
        # A separate command, because pip in hash mode rejects a local project.
        must_run(*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT), timeout=300)
        # Uses every processor, unlike pip. Exit code 1 is expected: some packages have templates that do not compile.
        run(PYTHON, "-m", "compileall", "-q", "-j", "0", str(BIN.parent / "lib"), timeout=300)
    STAMP.write_text(wanted, encoding="utf-8")


def ensure_test_packages() -> None:
    """Install the Debian packages for the tests; without root, print the command to install them."""
    missing = [package for program, package in TEST_PACKAGES.items() if not shutil.which(program)]
    if missing and can_install():
        apt_install(*missing)
    elif missing:
        print(f"missing for some tests: {manual_install(*missing)}", flush=True)


def lint() -> None:
    """Run `nox -s lint`; raise SetupError with its whole output if a linter found something."""
    with step("lint: ruff, shellcheck, zizmor, import-linter, mypy"):
        done = run(PYTHON, "-m", "nox", "--session", "lint", timeout=1200)
    if done.returncode:
        raise SetupError(f"the linters found something, so no test was run\n{done.stdout}")


def prepare(command: str) -> None:
    """Install everything that *command* needs; raise SetupError if that is impossible."""
    from scripts.engine import ensure_base_image, ensure_compose, ensure_engine

    os.environ["PATH"] = os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath), *SBIN))
    lock = os.open(
        ROOT, os.O_RDONLY
    )  # other runs in this checkout wait; a failed run releases it by its exit
    fcntl.flock(lock, fcntl.LOCK_EX)
    ensure_venv()
    ensure_engine()
    ensure_compose(BIN / "docker-compose")
    ensure_base_image()
    if command == "test":
        ensure_test_packages()
    os.close(lock)
    if command == "test":
        lint()


def final_argv(command: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Command line that replaces this process; without arguments pytest runs all but slow tests, two files at once."""
    if command == "demo":
        return (PYTHON, "-m", "examples.demo", *arguments)
    return (PYTHON, "-m", "pytest", *(arguments or WHOLE_RUN))


def main(arguments: Sequence[str]) -> int:
    """Prepare the machine for the command in the first argument, then replace this process with it."""
    if not arguments or arguments[0] not in {"engine", "test", "demo"}:
        print(USAGE, file=sys.stderr)
        return 2
    python = find_python(sys.version_info)
    if python is None:
        by_hand = manual_install("python3", "python3-venv")
        print(f"error: no Python 3.11 or newer in PATH: {by_hand}", file=sys.stderr)
        return 1
    if python != sys.executable:
        os.execv(python, [python, "-m", "scripts.prepare", *arguments])  # noqa: S606 - no shell is wanted
    command, rest = arguments[0], arguments[1:]
    try:
        prepare(command)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if command != "engine":
        # A shell ignores SIGINT in background jobs, and every child would inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(ROOT)
        argv = final_argv(command, rest)
        os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

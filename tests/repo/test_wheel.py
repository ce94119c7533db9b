"""Content of the wheel, and its use in a repository that has nothing but the wheel."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import sysconfig
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
# Folders of the checkout and their place in the wheel.
PLACES = {
    "cutover/": "cutover/",
    "smoke/": "cutover/smoke/",
    "checks/": "cutover/checks/",
    "deploy/proxy/": "cutover/deploy/proxy/",
}
ANSWERS = {
    "/readyz": {"ready": True},
    "/healthz": {"status": "ok"},
    "/version": {"service": "ledger", "version": "7"},
}


def run(*words: str | Path, cwd: Path, expect: int = 0) -> str:
    """Run *words* in *cwd* without the variables of this checkout; return the output."""
    env = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "CUTOVER"))
    }
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=env,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built without network access."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def stranger(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("stranger")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    into = ("--python", python, "install", "--quiet", "--no-index", "--no-deps")
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *into, wheel, cwd=folder)
    # A plain path, so that .pth files of this environment, and with them the checkout, are not processed.
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python.parent


class Ledger(http.server.BaseHTTPRequestHandler):
    """A service of another team that is ready and returns its version."""

    def do_GET(self) -> None:
        """Send the body in ANSWERS, or 404."""
        answer = ANSWERS.get(self.path.partition("?")[0])
        body = json.dumps(answer or {"error": "no such page"}).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Print nothing."""


@pytest.fixture
def ledger() -> Iterator[str]:
    """The URL of a service that runs during the test."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ledger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_wheel_carries_the_package_and_both_checklists(wheel: Path) -> None:
    """The wheel has every file of the package, of smoke/ and of checks/, and no other."""
    kept = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    wanted = {
        place + name.removeprefix(folder)
        for folder, place in PLACES.items()
        for name in kept
        if name.startswith(folder) and (ROOT / name).is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == wanted


ELSEWHERE = """
project = "ledger"
version = { json = { service = "ledger" } }
colors = { blue = { env_file = ".env.blue" }, green = { env_file = ".env.green" } }
"""


@pytest.mark.parametrize(
    "toml", [None, ELSEWHERE], ids=["nothing of ours", "a configuration of another machine"]
)
def test_another_team_gates_a_url_with_nothing_but_the_wheel(
    stranger: Path, ledger: str, tmp_path: Path, toml: str | None
) -> None:
    """A URL can be gated in a folder without our files, also if the env files of the colors do not exist."""
    if toml is not None:
        (tmp_path / "cutover.toml").write_text(toml, encoding="utf-8")
    command = ("-m", "pytest", "--pyargs", "cutover.smoke", f"--target={ledger}")
    said = run(stranger / "python", *command, cwd=tmp_path)
    assert " passed" in said
    assert str(ROOT) not in said


def test_the_console_script_comes_with_the_wheel(stranger: Path, tmp_path: Path) -> None:
    """`cutover --help` and `python -m cutover --help` print the same."""
    said = run(stranger / "cutover", "--help", cwd=tmp_path)
    assert "rollback" in said
    assert (
        run(stranger / "python", "-m", "cutover", "--help", cwd=tmp_path).splitlines()[1:]
        == said.splitlines()[1:]
    )

"""docs/getting-started.md, followed literally with a service other than the example."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from examples.stand import port_before_a_free_one
from tests.helpers import wheelhouse

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

DOCUMENT = wheelhouse.ROOT / "docs/getting-started.md"
SERVICE = Path(__file__).parent / "notes"
BLOCK = re.compile(r"^```(?P<language>\w+)(?P<rest>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PROJECT = "notes_blue"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the attributes of its first line, and its text."""

    language: str
    rest: str
    text: str

    @property
    def title(self) -> str:
        """Name of the file with this text; empty if it is not a file."""
        found = re.search(r'title="([^"]+)"', self.rest)
        return found[1] if found else ""

    @property
    def exit_code(self) -> int:
        """Expected exit code of the last command."""
        found = re.search(r"exit=(\d+)", self.rest)
        return int(found[1]) if found else 0


def blocks() -> list[Block]:
    """All blocks of the document, in order."""
    return [Block(**found.groupdict()) for found in BLOCK.finditer(DOCUMENT.read_text(encoding="utf-8"))]


def docker(*words: str) -> list[str]:
    """Output lines of a docker command, whatever its exit code."""
    done = subprocess.run(("docker", *words), capture_output=True, text=True, check=False, timeout=120)
    return done.stdout.split()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    """A user's repository with a service; its containers and images are removed afterwards."""
    folder = tmp_path / "repository"
    shutil.copytree(SERVICE, folder)
    subprocess.run(("git", "init", "--quiet"), cwd=folder, check=True)
    try:
        yield folder
    finally:
        mine = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}")
        docker(
            "rm", "--force", "--volumes", *mine, *docker("ps", "-aq", "--filter", "label=cutover.keep=notes")
        )
        docker("network", "rm", f"{PROJECT}_default")
        docker("image", "rm", "--force", *(f"notes:sha-{number}" for number in (1, 2, 3)))


@pytest.fixture
def environment(tmp_path: Path, wheels: Path) -> dict[str, str]:
    """Variables of an ordinary shell, with packages from the wheel folder and a private state directory."""
    kept = {
        key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG") if key in os.environ
    }
    ours = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "CUTOVER_STATE_DIR": str(tmp_path / "state")}
    return kept | ours | {"DOCKER_BUILDKIT": "0"}


def test_can_be_followed_word_for_word(repository: Path, environment: dict[str, str]) -> None:
    """Every block runs unchanged except for the port, with the documented exit code and output."""
    port, said, told = f"WEB_PORT={port_before_a_free_one()}", "", ""
    for block in blocks():
        text = block.text.replace("WEB_PORT=8000", port)
        if block.language == "text":
            if not block.title:
                assert all(line in said for line in text.splitlines()), f"{text}\nis not in:\n{said}"
        elif block.title:
            (repository / block.title).parent.mkdir(exist_ok=True)
            (repository / block.title).write_text(text, encoding="utf-8")
        else:
            done = subprocess.run(
                ("sh", "-euc", text),
                cwd=repository,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=600,
            )
            said = done.stdout
            told += f"$ {text}{said}"
            if done.returncode != block.exit_code:
                kept = Path(environment["CUTOVER_STATE_DIR"]).glob("*.json*")
                written = "".join(f"\n{each}:\n{each.read_text(encoding='utf-8')}" for each in sorted(kept))
                pytest.fail(f"exit code {done.returncode} of {text}, after\n{told}{written}")


def test_is_more_than_words() -> None:
    """The page contains files, commands, a failing command and expected output."""
    found = blocks()
    assert [block.title for block in found if block.title and block.language != "text"][:3] == [
        "compose.yml",
        "cutover.toml",
        ".env.example",
    ]
    assert sum(block.language == "sh" and not block.title for block in found) >= 8
    assert [block.exit_code for block in found if block.exit_code] == [1]

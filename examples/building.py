"""Have images on the engine, each built again only when what it is built from has changed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LABEL = "cutover.example.source"
BUILD_TIMEOUT_S = 600


def have(reference: str, dockerfile: str, folder: Path, labels: Mapping[str, str] | None = None) -> str:
    """Have *reference* on the engine, built from the text *dockerfile* and from *folder*; answers it back.

    Who wants the same one at the same time waits: built twice it would be two images under one name.
    """
    source = fingerprint(dockerfile, folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if source != _label(reference):
            run(words(reference, folder, {**(labels or {}), LABEL: source}), dockerfile)
    finally:
        os.close(handle)
    return reference


def words(reference: str, folder: Path, labels: Mapping[str, str]) -> tuple[str, ...]:
    """The command that builds *reference* from a Dockerfile on standard input."""
    pairs = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    return ("docker", "build", "--quiet", *pairs, "--tag", reference, "--file", "-", str(folder))


def fingerprint(dockerfile: str, folder: Path) -> str:
    """A digest of all that an image is built from: the Dockerfile's text and each file of the folder."""
    digest = hashlib.sha256(dockerfile.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            digest.update(f"\0{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def run(command: Sequence[str], text: str = "") -> str:
    """Run a Docker command with *text* as its input; its output, or RuntimeError with its last lines."""
    # The classic builder: BuildKit needs a plugin that Debian's engine does not bring.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(
        command,
        input=text,
        env=environment,
        text=True,
        capture_output=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{tail}")
    return done.stdout


def _label(reference: str) -> str:
    """The digest that *reference* was built from; empty when it is missing or not ours."""
    form = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    done = subprocess.run(
        ("docker", "image", "inspect", "--format", form, reference),
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""

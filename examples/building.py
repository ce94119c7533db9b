"""Build Docker images, skipping those whose source has not changed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LABEL = "cutover.example.source"
BUILD_TIMEOUT_S = 600


def have(
    reference: str,
    dockerfile: str,
    folder: Path,
    labels: Mapping[str, str] | None = None,
    *,
    fill: Callable[[Path], None] | None = None,
) -> str:
    """Build *reference* from *dockerfile* and *folder* unless it is up to date; return *reference*.

    *fill* adds to a copy of *folder* what is not in git, like installed packages: its result must follow from *folder*.
    A lock on *folder* serializes concurrent builds, which would otherwise create two images with one name.
    """
    source = fingerprint(dockerfile, folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if source != _label(reference):
            with tempfile.TemporaryDirectory() as scratch:
                context = folder
                if fill:
                    context = Path(shutil.copytree(folder, Path(scratch) / "context"))
                    fill(context)
                run(words(reference, context, {**(labels or {}), LABEL: source}), dockerfile)
    finally:
        os.close(handle)
    return reference


def words(reference: str, folder: Path, labels: Mapping[str, str]) -> tuple[str, ...]:
    """The `docker build` command for *reference*, with the Dockerfile on standard input."""
    pairs = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    return ("docker", "build", "--quiet", *pairs, "--tag", reference, "--file", "-", str(folder))


def fingerprint(dockerfile: str, folder: Path) -> str:
    """Short SHA-256 digest of the Dockerfile text and all files in *folder*."""
    digest = hashlib.sha256(dockerfile.encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            digest.update(f"\0{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def run(command: Sequence[str], text: str = "") -> str:
    """Run a Docker command with *text* as input and return its output; RuntimeError with its last lines on failure."""
    # Use the classic builder: BuildKit needs the buildx plugin, which Debian's docker.io does not include.
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
    """Source digest in the label of *reference*; empty if the image is missing or has no such label."""
    form = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    done = subprocess.run(
        ("docker", "image", "inspect", "--format", form, reference),
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""

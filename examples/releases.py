"""Build releases of recall: ``python -m examples.releases build sha-1111111 --defect wrong-version``."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .catalogue import DEFECTS, Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFECTS", "Release", "build", "main"]

HERE = Path(__file__).parent
SOURCE = HERE / "recall"
LABEL = "cutover.example.source"
REPO = "recall/api"
BASE = "cutover-recall-base:1"
TAG = re.compile(r"sha-[0-9a-f]{7}")
BUILD_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Release:
    """One image to build: a tag, and at most one defect."""

    tag: str
    defect: str | None = None
    seconds: float = 20
    repo: str = REPO

    def __post_init__(self) -> None:
        if not TAG.fullmatch(self.tag):
            raise ValueError(f"tag {self.tag!r} is not of the form sha-<7 hex digits>")
        if self.defect is not None and self.defect not in DEFECTS:
            raise ValueError(f"unknown defect {self.defect!r}: there are {', '.join(DEFECTS)}")

    @property
    def reference(self) -> str:
        """The image's name, as Compose puts it together from IMAGE_REPO and IMAGE_TAG."""
        return f"{self.repo}:{self.tag}"

    def dockerfile(self, common: str) -> str:
        """The Dockerfile: what is common to all, then what makes this one."""
        lines = [f"ENV BUILT_AS={self.tag}"]
        if self.defect is not None:
            lines += [
                f"ENV DEFECT={self.defect} DEFECT_SECONDS={self.seconds:g}",
                *DEFECTS[self.defect].lines,
            ]
        return "\n".join([common.rstrip("\n"), *lines, ""])

    def words(self, source: str) -> tuple[str, ...]:
        """The command that builds it from a Dockerfile on standard input."""
        label = f"{LABEL}={source}"
        # No --no-cache: the layers below ENV are the same for all, so a release builds in a second.
        return (
            "docker",
            "build",
            "--quiet",
            "--label",
            label,
            "--tag",
            self.reference,
            "--file",
            "-",
            str(SOURCE),
        )


def build(tag: str, defect: str | None = None, *, repo: str = REPO, seconds: float = 20) -> str:
    """Have ``repo:tag`` on the engine, built from today's source with *defect*; answers its reference.

    *seconds* is how long ``breaks-later`` stays good. A tag that is up to date is left alone.
    """
    release = Release(tag, defect, seconds, repo)
    dockerfile = release.dockerfile((SOURCE / "Dockerfile").read_text())
    source = fingerprint(SOURCE, dockerfile)
    if _label(release.reference) != source:
        have(BASE, SOURCE / "base.Dockerfile")
        run(release.words(source), dockerfile)
    return release.reference


def have(reference: str, dockerfile: Path) -> str:
    """Have an image of ours on the engine, built from *dockerfile* and its folder; answers its reference."""
    text = dockerfile.read_text()
    source = fingerprint(dockerfile.parent if dockerfile.name == "Dockerfile" else None, text)
    if _label(reference) != source:
        folder = str(dockerfile.parent)
        label = f"{LABEL}={source}"
        run(("docker", "build", "--quiet", "--label", label, "--tag", reference, "--file", "-", folder), text)
    return reference


def fingerprint(folder: Path | None, dockerfile: str) -> str:
    """A digest of what an image is built from: the Dockerfile, and each file of the folder."""
    digest = hashlib.sha256(dockerfile.encode())
    for path in sorted(folder.rglob("*")) if folder else ():
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"\0{path.relative_to(folder or path)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def run(words: Sequence[str], text: str = "") -> str:
    """Run a Docker command with *text* on its standard input; its output, or its last lines as the error."""
    # The classic builder: BuildKit needs a plugin that Debian's engine does not bring.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(
        words,
        input=text,
        env=environment,
        text=True,
        capture_output=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}\n{tail}")
    return done.stdout


def _label(reference: str) -> str:
    form = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    try:
        return run(("docker", "image", "inspect", "--format", form, reference)).strip()
    except RuntimeError:
        return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.releases", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("build", help="build one release, unless it is up to date")
    one.add_argument("tag", help="sha-<7 hex digits>")
    one.add_argument("--defect", choices=sorted(DEFECTS), metavar="NAME", help="see: list")
    one.add_argument("--seconds", type=float, default=20, help="how long breaks-later stays good")
    one.add_argument("--repo", default=REPO)
    commands.add_parser("list", help="show the named defects")
    given = parser.parse_args(arguments)
    try:
        say = (
            listing()
            if given.command == "list"
            else build(given.tag, given.defect, repo=given.repo, seconds=given.seconds)
        )
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(say)
    return 0


def listing() -> str:
    """The named defects, grouped by when they show."""
    blocks = []
    for seen in Seen:
        rows = [f"  {defect.name:19} {defect.about}" for defect in DEFECTS.values() if defect.seen is seen]
        blocks.append("\n".join([f"seen {seen.value}", *rows]))
    return "\n".join(blocks)


if __name__ == "__main__":
    sys.exit(main())

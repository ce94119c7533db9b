"""Build releases of recall: ``python -m examples.releases build sha-1111111 --defect wrong-version``."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from examples.building import have
from examples.catalogue import DEFECTS, FEWEST, REVISIONS, Seen
from examples.images import image

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFECTS", "Release", "build", "main"]

SOURCE = Path(__file__).with_name("recall")
REPO = "recall/api"
TAG = re.compile(r"sha-[0-9a-f]{7}")


@dataclass(frozen=True, slots=True)
class Release:
    """One image to build: a tag and at most one defect."""

    tag: str
    defect: str | None = None
    seconds: float = 20
    repo: str = REPO
    revisions: int = len(REVISIONS)

    def __post_init__(self) -> None:
        if not TAG.fullmatch(self.tag):
            raise ValueError(f"tag {self.tag!r} is not of the form sha-<7 hex digits>")
        if self.defect is not None and self.defect not in DEFECTS:
            raise ValueError(f"unknown defect {self.defect!r}: there are {', '.join(DEFECTS)}")
        if not FEWEST <= self.revisions <= len(REVISIONS):
            raise ValueError(f"{self.revisions} revisions: there are {FEWEST} to {len(REVISIONS)}")

    @property
    def reference(self) -> str:
        """Image reference, as Compose builds it from IMAGE_REPO and IMAGE_TAG."""
        return f"{self.repo}:{self.tag}"

    def dockerfile(self, common: str) -> str:
        """The Dockerfile: the *common* part, then the lines of this release."""
        lines = [*self._older(), f"ENV BUILT_AS={self.tag}"]
        if self.defect is not None:
            lines += [
                f"ENV DEFECT={self.defect} DEFECT_SECONDS={self.seconds:g}",
                *DEFECTS[self.defect].lines,
            ]
        return "\n".join([common.rstrip("\n"), *lines, ""])

    def _older(self) -> tuple[str, ...]:
        """Lines that remove the migrations which an earlier release does not contain."""
        unknown = [f"recall/migrations/versions/*{name}*" for name in REVISIONS[self.revisions :]]
        extra = "recall/migrations/contract recall/migrations/broken"
        return ("USER 0", f"RUN rm -r {' '.join(unknown)} {extra}", "USER 10001:10001") if unknown else ()


def build(
    tag: str,
    defect: str | None = None,
    *,
    repo: str = REPO,
    seconds: float = 20,
    revisions: int = len(REVISIONS),
) -> str:
    """Build ``repo:tag`` from the current source with *defect* unless it is up to date; return its reference.

    *seconds* is the time after which ``breaks-later`` fails. Fewer *revisions* build an earlier release, which
    contains only the oldest migrations.
    """
    release = Release(tag, defect, seconds, repo, revisions)
    image("base")
    common = (SOURCE / "Dockerfile").read_text()
    return have(
        release.reference, release.dockerfile(common), SOURCE, {"cutover.example.defect": defect or "none"}
    )


def listing() -> str:
    """The named defects, grouped by when they become visible."""
    lines = []
    for seen in Seen:
        lines.append(f"seen {seen.value}")
        lines += [f"  {one.name:19} {one.about}" for one in DEFECTS.values() if one.seen is seen]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.releases", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("build", help="build one release, unless it is up to date")
    one.add_argument("tag", help="sha-<7 hex digits>")
    one.add_argument("--defect", help="one of those that `list` shows")
    one.add_argument("--seconds", type=float, default=20, help="how long breaks-later stays good")
    one.add_argument("--repo", default=REPO)
    one.add_argument("--revisions", type=int, default=len(REVISIONS), help="how many migrations it knows")
    commands.add_parser("list", help="show the named defects")
    given = parser.parse_args(arguments)
    if given.command == "list":
        print(listing())
        return 0
    try:
        how = {"repo": given.repo, "seconds": given.seconds, "revisions": given.revisions}
        print(build(given.tag, given.defect, **how))
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

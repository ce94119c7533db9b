"""``python -m examples.images [name …]``: build the named images, or all of them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from . import IMAGES, image

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.images", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(IMAGES)}; default: all")
    names = parser.parse_args(arguments).names
    if unknown := set(names) - set(IMAGES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(IMAGES)}")
    for name in names or IMAGES:
        print(image(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""python3 -m scripts.fresh: go on with a Python that is new enough. Old ones read this file too."""

import os
import sys

from scripts.fresh import pythons

if __name__ == "__main__":
    chosen = pythons.choose()
    if chosen != sys.executable:
        os.execv(chosen, [chosen, "-m", "scripts.fresh", *sys.argv[1:]])  # noqa: S606 - no shell is wanted

    from scripts.fresh import cli

    sys.exit(cli.main(sys.argv[1:]))

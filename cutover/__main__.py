"""`python -m cutover` is `cutover`."""

from cutover.cli import main

main()

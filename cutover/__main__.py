"""`python -m cutover` is `cutover`."""

from cutover.cli.main import main

main()

"""Push an image to its registry, and say the digest that it has there."""

from __future__ import annotations

import click

from cutover.commands.common import tell
from cutover.errors import UsageProblem


@click.command
@click.argument("image")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")
def command(image: str, as_json: bool) -> int:
    """Push IMAGE (repository:tag), which is on this host, and ask the registry for it again by its digest.

    For ghcr.io, GHCR_USERNAME and GHCR_TOKEN sign in for this one command; nothing is stored. GHCR_HOST names
    another registry that they are for.
    """
    from cutover import registry
    from cutover.engine import EngineSilent

    try:
        pushed = registry.push(image)
    except EngineSilent as error:
        raise UsageProblem(str(error)) from error
    tell(
        as_json,
        pushed.as_json(),
        [f"pushed {image}", f"digest {pushed.digest}", f"for    {pushed.architecture}"],
    )
    return 0

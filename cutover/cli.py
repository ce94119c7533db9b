"""`cutover`: one command a file, loaded only when it is called."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import click

from cutover import __version__, commands
from cutover.core.errors import CutoverError, EngineUnavailable

HIDDEN = {"common", "reports"}
SHARED = {"report": "reports", "journal": "reports"}
"""Commands that share a file, where each is called `NAME_command`."""


class Lazy(click.Group):
    """A group that imports a command's file only to run it or to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The files of `cutover/commands`."""
        del ctx
        files = (each.name for each in pkgutil.iter_modules(commands.__path__) if each.name not in HIDDEN)
        return sorted([*SHARED, *(each.replace("_", "-") for each in files)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `command` of that file."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"cutover.commands.{SHARED.get(name, name)}")
        found: click.Command = getattr(module, f"{name}_command" if name in SHARED else "command")
        return found


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cutover")
def cutover() -> None:
    """Release a Docker Compose service without fear: what runs, roll back, recover, retire."""


def main() -> None:
    """Run the command line; an error a person can act on is one line and its exit code."""
    try:
        code = cutover.main(standalone_mode=False)
    except EngineUnavailable as error:
        click.echo(f"cutover: {error}; see `cutover status` when it does", err=True)
        sys.exit(error.exit_code)
    except CutoverError as error:
        click.echo(f"cutover: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        click.echo("cutover: interrupted", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(4)
    sys.exit(code if isinstance(code, int) else 0)

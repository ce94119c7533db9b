"""`cutover`: the command group, which imports a command only when it is called, and the options that commands share."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import click

from cutover import __version__
from cutover.core.config import Settings, find_config, load_config
from cutover.core.errors import ConfigError, CutoverError, EngineUnavailable
from cutover.core.masking import printable
from cutover.core.target import empty_fault

COMMANDS = {
    "doctor": ("doctor", "env"),
    "init": ("init",),
    "lease": ("lease",),
    "operations": ("confirm", "recover", "rehearse", "retire", "rollback"),
    "release": ("release",),
    "reports": ("journal", "report"),
    "snapshot": ("snapshot",),
    "status": ("stats", "status"),
}
"""Module of this folder -> its commands; `NAME` is called `NAME_command` there."""
MODULES = {name: module for module, names in COMMANDS.items() for name in names}

F = TypeVar("F", bound=Callable[..., Any])
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")


def files_option(text: str) -> Callable[[F], F]:
    """The option `-f FILE` that names compose files; *text* is its help."""
    return click.option("-f", "--file", "files", multiple=True, metavar="FILE", help=text)


def common(function: F) -> F:
    """Add `--cutover-config` and `--json`."""
    config_option = click.option("--cutover-config", "config", metavar="FILE", help="Another cutover.toml.")
    return config_option(json_option(function))


def settings_of(config: str | None) -> Settings:
    """The settings; raises ConfigError."""
    return load_config(find_config(config, os.environ, Path.cwd()), os.environ)


def tell(as_json: bool, facts: dict[str, Any], lines: list[str]) -> None:
    """Print *facts* as JSON or *lines* as they are."""
    for line in [json_text(facts)] if as_json else map(printable, lines):
        click.echo(line)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise ConfigError for an OSError of the body, which writes the file *path*."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def json_text(value: object) -> str:
    """*value* as JSON on one line, in which a CI finds no command."""
    return json.dumps(value, ensure_ascii=False, default=str).replace("##[", "##\\u005b")


class Lazy(click.Group):
    """A group that imports the module of a command only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        del ctx
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None if there is none."""
        del ctx
        if cmd_name not in MODULES:
            return None
        module = importlib.import_module(f"cutover.cli.{MODULES[cmd_name]}")
        found: click.Command = getattr(module, f"{cmd_name}_command")
        return found


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cutover")
def cutover() -> None:
    """Release a Docker Compose service without fear: what runs, roll back, recover, retire."""


def empty_option(words: Sequence[str]) -> str:
    """The first option of a command line that is given an empty value, as `--hosts="$HOSTS"`; empty if there is none.

    Not left to click: a path, for which the working directory would be taken, is empty there no more.
    """
    for before, word in pairwise(("", *words)):
        name, given, value = word.partition("=")
        if name.startswith("-") and given and not value.strip():
            return name
        if before.startswith("-") and not word.strip():
            return before
    return ""


def main() -> None:
    """Run the command line; an error a person can act on is one line and its exit code."""
    try:
        if name := empty_option(sys.argv[1:]):
            raise ConfigError(empty_fault(name))
        code = cutover.main(standalone_mode=False)
    except CutoverError as error:
        hint = "; see `cutover status` when it does" if isinstance(error, EngineUnavailable) else ""
        click.echo(f"cutover: {error}{hint}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        click.echo("cutover: interrupted", err=True)
        sys.exit(2)
    except click.ClickException as error:
        usage = f"{error.ctx.get_usage()}\n" if isinstance(error, click.UsageError) and error.ctx else ""
        click.echo(printable(f"{usage}Error: {error.format_message()}"), err=True)
        sys.exit(4)
    sys.exit(code if isinstance(code, int) else 0)

"""What the commands share: the options, and the settings that they mean."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cutover.core.config import Settings, find_config, load_config

F = TypeVar("F", bound=Callable[..., Any])


def common(function: F) -> F:
    """Add `--cutover-config` and `--json`."""
    function = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")(
        function
    )
    return click.option("--cutover-config", "config", metavar="FILE", help="Another cutover.toml.")(function)


def settings_of(config: str | None) -> Settings:
    """The settings; raises ConfigError."""
    return load_config(find_config(config, os.environ, Path.cwd()), os.environ)


def tell(as_json: bool, facts: dict[str, Any], lines: list[str]) -> None:
    """Print *facts* as JSON or *lines* as they are."""
    for line in [json.dumps(facts, ensure_ascii=False, default=str)] if as_json else lines:
        click.echo(line)

"""`docker compose` v2: the plugin that is there, else the binary that the virtual environment carries."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.fresh.run import Words, ask, must
from scripts.fresh.steps import StopError, say, step

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Words = ("docker", "compose", "version", "--short")


def plugin(env: Mapping[str, str], home: Path) -> Path:
    """Where this user's client looks for the plugin."""
    return Path(env.get("DOCKER_CONFIG") or home / ".docker") / "cli-plugins" / "docker-compose"


def is_version_2(short: str) -> bool:
    """Whether *short*, as Compose says its version, is 2 or newer."""
    major = short.strip().removeprefix("v").partition(".")[0]
    return major.isdecimal() and int(major) >= 2  # noqa: PLR2004 - the claim itself


def put(binary: Path, place: Path) -> None:
    """Copy *binary* to *place* in one move: a link would die with this checkout."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.copy2(binary, part)
    part.chmod(0o755)
    part.replace(place)


def ensure(tools: Path) -> None:
    """`docker compose` answers with version 2 or newer when this returns."""
    answer = ask(VERSION, seconds=30)
    if answer.ok and is_version_2(answer.output):
        say(f"compose: using the plugin that is there ({answer.output.strip()})")
        return
    place = plugin(os.environ, Path.home())
    if place.exists():
        raise StopError(f"the Compose plugin {place} does not work: remove it and try again\n{answer.output}")
    with step(f"compose: putting the plugin to {place}"):
        put(tools / "docker-compose", place)
        version = must(VERSION, seconds=60)
    say(f"compose: {version.strip()}")

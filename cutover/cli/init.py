"""`cutover init`: write what a release of an existing Compose project needs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import click

from cutover.cli.main import files_option, tell, writing
from cutover.core.config import load_config
from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.env.adoption import Choices, ComposeProject, candidates, draft, read_project, readiness_path
from cutover.system import docker
from cutover.system.files import write_atomically

PROJECT = r"[a-z0-9][a-z0-9_-]*"
PROXIES = ("nginx", "traefik", "haproxy", "none")
PROXY_STEP = 'install proxy/ and check its lines marked "yours" (deploy/proxy/README.md)'


@click.command("init")
@files_option("A compose file; repeatable.")
@click.option(
    "--service", "services", multiple=True, metavar="NAME", help="Repeatable; the first gets the traffic."
)
@click.option(
    "--project", metavar="NAME", help="Name of the service in cutover.toml; default: the Compose project."
)
@click.option("--ready", metavar="PATH", help="The path that answers 200 when the service is ready.")
@click.option("--proxy", type=click.Choice(PROXIES), default="none", show_default=True,
              help="Blue and green behind this proxy; none: releases are made in place.")  # fmt: skip
@click.option(
    "--write-compose", is_flag=True, help="Make the changes in the compose file too; comments stay."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init_command(  # noqa: PLR0913, PLR0917  # one for each option
    files: tuple[str, ...],
    services: tuple[str, ...],
    project: str | None,
    ready: str | None,
    proxy: str,
    write_compose: bool,
    as_json: bool,
) -> None:
    """Write cutover.toml, the env file of each color and the proxy's configuration for the Compose project here.

    The compose file is read through Compose, with COMPOSE_FILE and an override file beside it. The changes that it
    needs are printed as a diff. A file that exists is never overwritten, and no container is touched.
    """
    found = read_project(Path.cwd(), files, os.environ)
    choices = choose(found, services, ready, project or found.name, proxy)
    require_same(found.folder / "cutover.toml", choices)
    drafted = draft(found, choices, shipped_proxies())
    for path, (_, text) in drafted.compose.items() if write_compose else ():
        with writing(path):
            write_atomically(path, text, mode=path.stat().st_mode & 0o777)
    written, kept = write_files(found.folder, drafted.files)
    fill_in = [each for each in drafted.fill_in if each.split(":", maxsplit=1)[0] in written]
    facts = {
        "project": choices.project, "services": choices.services, "written": written, "kept": kept,
        "fill_in": fill_in, "diff": drafted.diff(found), "by_hand": drafted.by_hand, "moves": drafted.moves,
        "compose_written": write_compose and bool(drafted.compose),
    }  # fmt: skip
    tell(as_json, facts, lines_of(facts, choices))


def choose(
    found: ComposeProject, services: tuple[str, ...], ready: str | None, project: str, proxy: str
) -> Choices:
    """Return the choices, from options, the compose file, or the person at the terminal; raises ConfigError."""
    require_there(found, services)
    asks = is_terminal()
    services = services or (main_service(candidates(found), asks=asks),)
    main, raw = found.services[services[0]], found.raw(services[0])
    named = not found.is_unknown(str(raw.get("image") or ""))
    image = image_here(str(main.get("image") or "")) if named else None
    shown = "" if found.is_unknown(readiness_path(raw, image)) else readiness_path(main, image)
    path = ready or shown
    if not path:
        path = click.prompt("Path that answers 200 when it is ready", default="/") if asks else "/"
    if not path.startswith("/"):
        raise ConfigError(f"--ready {path}: a path begins with /, like /healthz")
    if not re.fullmatch(PROJECT, project):
        raise ConfigError(f"--project {project}: lower-case letters, digits, - and _ are allowed")
    return Choices(services, path, project, proxy, image)


def require_there(found: ComposeProject, services: tuple[str, ...]) -> None:
    """Raise ConfigError if one of *services* is not there, or no service at all because no profile is active."""
    every = found.source.get("services") or {}
    profiles = {name: each.get("profiles") or [] for name, each in every.items()}
    if not found.services and not services and (known := sorted({*chain(*profiles.values())})):
        raise ConfigError(
            f"no profile is active: COMPOSE_PROFILES in .env chooses among {', '.join(known)}; or take the profile off"
        )
    for name in (each for each in services if each not in found.services):
        if own := profiles.get(name):
            what = f"service {name!r} has profiles {', '.join(own)}, and none of them is active"
            raise ConfigError(f"{what}: COMPOSE_PROFILES={own[0]} in .env, or take the profile off")
        there = ", ".join(found.services) or "no service"
        raise ConfigError(f"--service {name}: the compose file has {there}")


def main_service(likely: list[str], *, asks: bool) -> str:
    """Return which of the *likely* services gets the traffic, by the person at the terminal if it *asks*."""
    if not likely:
        why = "the compose file has only databases; name one with --service"
        raise ConfigError(f"no service to release: {why}")
    first, *others = likely
    if others and not asks:
        raise ConfigError(f"which service gets the traffic? --service={first} or {', '.join(others)}")
    if not others:
        return first
    return str(click.prompt("Service that gets the traffic", type=click.Choice(likely)))


def is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def require_same(path: Path, choices: Choices) -> None:
    """Raise ConfigError if there is a configuration of other colors or services: half of each would fit nothing."""
    try:
        settings = load_config(path)
    except ConfigError:
        return  # missing, or kept as it is
    colors = {"blue", "green"} if choices.two_colors else {"blue"}
    if set(settings.colors) != colors or settings.services != choices.services:
        what = f"{path.name} exists, for {' and '.join(settings.colors)}, services {', '.join(settings.services)}"
        raise ConfigError(f"{what}: give --proxy and --service that fit it, or remove it")


def image_here(reference: str) -> Mapping[str, Any] | None:
    """`docker image inspect` of *reference*, None without the image or the engine."""
    try:
        return docker.inspect_image(reference) if reference else None
    except (EngineUnavailable, ConfigError):
        return None


def shipped_proxies() -> Path:
    """The folder of the proxy configurations, in the wheel or in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "deploy/proxy"
    return installed if installed.is_dir() else package.parent / "deploy/proxy"


def write_files(folder: Path, files: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Write each file that does not exist, env files with mode 0600; the names written, and those kept."""
    written, kept = [], []
    for name, text in files.items():
        path = folder / name
        mode = 0o600 if name.startswith(".env") else 0o755 if name.endswith(".sh") else 0o644
        if os.path.lexists(path):
            kept.append(name)
            continue
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
        written.append(name)
    return written, kept


def lines_of(facts: Mapping[str, Any], choices: Choices) -> list[str]:
    """What was written, what the compose file needs, and what to do next."""
    how = f"blue and green behind {choices.proxy}" if choices.two_colors else "in place"
    main = f"{choices.services[0]} gets the traffic"
    lines = [f"{choices.project}: {main}, releases {how}, ready is {choices.ready}"]
    lines += [f"  wrote    {name}" for name in facts["written"]]
    lines += [f"  kept     {name}: it exists, and is not overwritten" for name in facts["kept"]]
    lines += [f"  fill in  {key}" for key in facts["fill_in"]]
    lines += [f"  move     {each}" for each in facts["moves"]]
    if facts["diff"]:
        needed = "  needed   in the compose file (--write-compose does it):"
        lines.append("  changed  the compose file:" if facts["compose_written"] else needed)
        lines += ["", *facts["diff"].splitlines(), ""]
    lines += [f"  by hand  {each}" for each in facts["by_hand"]]
    steps = [PROXY_STEP] if choices.two_colors else []
    steps += ["keep .env.blue, .env.green and reports/ out of git", "cutover doctor"]
    return [*lines, *(f"  next     {each}" for each in steps)]

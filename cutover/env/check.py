"""Asks for everything that the judge of env files needs, and gathers its findings."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cutover import host
from cutover.compose import Rendered, is_private, render
from cutover.env import dotenv, judge
from cutover.env.judge import Finding
from cutover.env.parity import Row, parity
from cutover.errors import UsageProblem
from cutover.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cutover.settings import Settings

GIT_DEADLINE_S = 10.0


@dataclass(slots=True)
class Checked:
    """What was found in the env files of all colours, and the colours side by side."""

    colours: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def found(self, where: object, what: str, todo: str) -> None:
        """Keep one finding."""
        self.findings.append(Finding(str(where), what, todo))


def check(settings: Settings, environment: Mapping[str, str]) -> Checked:
    """Look at each colour's env file; *environment* is the caller's own. No value gets into a finding."""
    seen = Checked(tuple(settings.colours))
    template = _template(settings, seen)
    read: dict[str, Mapping[str, str]] = {}
    for colour in seen.colours:
        values = _colour(settings, colour, environment, seen)
        if values is not None:
            read[colour] = values
            seen.findings += judge.incomplete(values, template, place(settings, colour))

    def where(colour: str) -> str:
        return place(settings, colour)

    seen.findings += judge.lacking(read, where)
    seen.findings += judge.not_apart(read, where, apart(settings))
    seen.findings += judge.not_shared(read, where, shared(settings))
    public = (*settings.public_keys, settings.port_key, settings.tag_key, settings.image_repo_key)
    seen.rows = (
        parity(read, public=public, apart=(*apart(settings), settings.tag_key)) if len(read) > 1 else []
    )
    return seen


def env_file(settings: Settings, colour: str) -> Path:
    """The env file of *colour*."""
    return settings.colours[colour].env_file


def place(settings: Settings, colour: str) -> str:
    """The env file of *colour* as its reader knows it: relative to where they stand, if it is below."""
    path, here = env_file(settings, colour), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def apart(settings: Settings) -> tuple[str, ...]:
    """The keys that each colour must have for itself; the tag may be the same on both."""
    return (settings.port_key, "COMPOSE_PROJECT_NAME", "COLOUR")


def shared(settings: Settings) -> tuple[str, ...]:
    """The keys that name the shared data."""
    database = (settings.database.url_key,) if settings.database else ()
    return tuple({*database, *(each.url_key for each in settings.dependencies if each.url_key)})


def _template(settings: Settings, seen: Checked) -> dict[str, str]:
    if settings.env_template is None:
        return {}
    try:
        return dotenv.read(settings.env_template)
    except UsageProblem as error:
        seen.found(settings.source, f"env_template: {error}", "correct env_template")
        return {}


def _colour(
    settings: Settings, colour: str, environment: Mapping[str, str], seen: Checked
) -> Mapping[str, str] | None:
    """The variables of one colour, None when its file cannot be read; findings go into *seen*."""
    path, where = env_file(settings, colour), place(settings, colour)
    if not path.is_file():
        seen.found(where, "no such file", f"write it from the template (colours.{colour}.env_file)")
        return None
    seen.findings += kept_private(path, where)
    try:
        values = dotenv.read(path)
    except UsageProblem as error:
        seen.found(where, str(error).removeprefix(f"{path}: "), "correct the line")
        return None
    MASK.learn_environment(values, settings.public_keys)
    seen.findings += judge.placeholders(values, where)
    seen.findings += judge.broken_urls(values, where)
    seen.findings += judge.exported(values, environment, where)
    seen.findings += judge.own_data(values, settings.data_profiles, where, colour)
    try:
        _rendered(settings, render(settings, colour), where, seen)
    except UsageProblem as error:
        seen.found(where, str(error).removeprefix(f"{path}: "), "correct it")
    return values


def _rendered(settings: Settings, rendered: Rendered, where: str, seen: Checked) -> None:
    """What only the Compose file tells: the tag that the service ends up with, and its port."""
    service, services = settings.service, rendered.model["services"]
    if service not in services:
        what = f"services names {service!r}, which {settings.compose_file} does not have"
        seen.found(settings.source, what, f"it has {', '.join(services)}")
        return
    seen.findings += judge.unpinned(rendered.image(service), rendered.tag(service), where, settings.tag_key)
    if not rendered.port(service):
        seen.found(
            settings.compose_file, f"service {service!r} publishes no port", "publish one on 127.0.0.1"
        )


def kept_private(path: Path, where: str) -> list[Finding]:
    """A finding for a file that others may read, and for one that git keeps."""
    found, us = [], os.geteuid()
    if path.stat().st_uid not in {us, 0}:
        todo = f"chown {us} {where} && chmod 600 {where}"
        found.append(Finding(where, f"belongs to user {path.stat().st_uid}", todo))
    elif not is_private(path):
        mode = f"mode {path.stat().st_mode & 0o777:04o}"
        found.append(Finding(where, f"{mode}, others may read it", f"chmod 600 {where}"))
    if tracked(path):
        found.append(Finding(where, "is tracked by git", f"git rm --cached {where}, and renew what it holds"))
    return found


def tracked(path: Path) -> bool:
    """Whether git keeps *path*; where there is no git or no repository, it does not."""
    words = ("git", "-c", "safe.directory=*", "ls-files", "--error-unmatch", "--", path.name)
    return host.run(words, deadline_s=GIT_DEADLINE_S, cwd=str(path.parent)).ok

"""Compose: its command lines as values, and the rendered form of one colour's release."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutover import host
from cutover.container import GRACE_S
from cutover.env import dotenv, judge
from cutover.errors import UsageProblem
from cutover.secret import MASK
from cutover.settings import Settings, seconds

Words = tuple[str, ...]
DEADLINE_S = 30.0
OLDEST = (2, 28)
"""The first Compose that has `config --environment`."""


@dataclass(frozen=True, slots=True)
class Compose:
    """One Compose project and the file that describes it."""

    project: str
    file: Path
    env_file: Path | None = None

    def words(self, *rest: str) -> Words:
        """`docker compose` on this project."""
        env = ("--env-file", str(self.env_file)) if self.env_file else ()
        return ("docker", "compose", "--project-name", self.project, "--file", str(self.file), *env, *rest)

    def up(self, *services: str, wait_s: float) -> Words:
        """Create or recreate *services*; nothing else is touched or pulled.

        Waits until they are healthy, but with *wait_s* 0 for nothing: they were not healthy before either.
        """
        wait = ("--wait", "--wait-timeout", str(max(1, round(wait_s)))) if wait_s else ()
        return self.words("up", "--detach", "--no-deps", "--pull", "never", *wait, *services)

    def stop(self, *services: str) -> Words:
        """Stop *services* with their own grace period."""
        return self.words("stop", *services)

    def config(self, *flags: str) -> Words:
        """What Compose makes of the file."""
        return self.words("config", *flags)


@dataclass(frozen=True, slots=True)
class Rendered:
    """What Compose makes of one colour with one tag: the release file's text and what it says."""

    colour: str
    project: str
    text: str
    """JSON, which is YAML; `$` stays doubled, as Compose wants to read it."""
    model: Mapping[str, Any]
    variables: Mapping[str, str]
    """The env file's variables as Compose reads them."""

    def service(self, name: str) -> Mapping[str, Any]:
        """One service of the model; raises UsageProblem."""
        services = self.model.get("services") or {}
        if name not in services:
            known = ", ".join(services) or "no service at all"
            raise UsageProblem(f"services names {name!r}, the compose file of {self.colour} has {known}")
        found: Mapping[str, Any] = services[name]
        return found

    def image(self, service: str) -> str:
        """`repo:tag` of *service*; raises UsageProblem for one that is only built."""
        name = self.service(service).get("image")
        if not name:
            raise UsageProblem(f"service {service!r} names no image: a release is an image with a tag")
        return str(name)

    def tag(self, service: str) -> str:
        """The tag of *service*'s image; empty for one named by digest only."""
        name = self.image(service).split("@", 1)[0]
        return name.rsplit(":", 1)[1] if ":" in name.rsplit("/", 1)[-1] else ""

    def environment(self, service: str) -> dict[str, str]:
        """What the service's container gets, with Compose's doubled dollars undone."""
        given = self.service(service).get("environment") or {}
        return {key: str(value).replace("$$", "$") for key, value in given.items() if value is not None}

    def grace_s(self, service: str) -> float:
        """How long *service* may take to stop."""
        given = self.service(service).get("stop_grace_period")
        return seconds(given) if given else GRACE_S

    def port(self, service: str) -> int:
        """The loopback port that *service* publishes; 0 if none."""
        return next((port for _, port in self.published(service)), 0)

    def inner_port(self, service: str) -> int:
        """The port inside the container that is published; 0 if none."""
        rows = self.service(service).get("ports") or ()
        return next((int(row.get("target", 0)) for row in rows if row.get("published")), 0)

    def published(self, service: str) -> list[tuple[str, int]]:
        """Address and TCP port of each port that *service* publishes; of a range its first one."""
        return [
            (str(row.get("host_ip") or ""), int(str(row["published"]).split("-", 1)[0]))
            for row in self.service(service).get("ports") or ()
            if row.get("published") and row.get("protocol", "tcp") == "tcp"
        ]


def render(settings: Settings, colour: str, tag: str | None = None) -> Rendered:
    """*colour* as Compose reads it, with *tag* instead of the env file's when given; raises UsageProblem.

    The env file is read by Compose alone, in a scrubbed environment, and its values are masked from here on.
    """
    env_file = settings.colours[colour].env_file
    for path, what in ((settings.compose_file, "compose_file"), (env_file, f"colours.{colour}.env_file")):
        if not path.is_file():
            raise UsageProblem(f"{path}: no such file ({what} in {settings.source})")
    compose = Compose(settings.compose_project(colour), settings.compose_file, env_file)
    override = {settings.tag_key: tag} if tag else {}
    with ThreadPoolExecutor(2) as pool:  # two calls of 0.1 s each, side by side
        config = pool.submit(_ask, compose.config("--format", "json"), override)
        variables = pool.submit(_ask, compose.config("--environment"), override)
        text, values = config.result(), _variables(variables.result(), override)
    MASK.learn_environment(values, settings.public_keys)
    return Rendered(colour, compose.project, text, json.loads(text), values)


def _ask(words: Words, override: Mapping[str, str]) -> str:
    """The output of a `compose config` call; a warning about an unset variable is an error."""
    done = host.run(words, deadline_s=DEADLINE_S, environment=override, mask=False)
    if not done.ok:
        compose_version()  # one that is too old says "unknown flag", and one that is not there says worse
        raise UsageProblem(f"docker compose config: {MASK(done.last_line)}")
    for line in done.err.splitlines():
        if "variable is not set" in line:
            name = line.split("The ", 1)[-1].split(" variable", 1)[0].strip('\\"')
            raise UsageProblem(
                f"{words[words.index('--env-file') + 1]}: {name} is not set, and the compose file uses it"
            )
    return done.out


def _variables(text: str, override: Mapping[str, str]) -> dict[str, str]:
    """KEY=VALUE lines without what we passed ourselves."""
    ours = host.clean_environment() | {"PWD": ""}  # Compose adds the folder that it runs in
    rows = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    # The command line tells its plugins how it was called: the word "docker" is no secret.
    theirs = ((key, value) for key, value in rows if not key.startswith("DOCKER_CLI_"))
    return {key: value for key, value in theirs if key not in ours} | dict(override)


def hashes(compose: Compose, text: str | None = None) -> dict[str, str]:
    """Service → the config hash that Compose will label its container with; *text* is the file `-`."""
    stdin = None if text is None else text.encode()
    done = host.run(compose.config("--hash", "*"), deadline_s=DEADLINE_S, stdin=stdin)
    if not done.ok:
        raise UsageProblem(f"docker compose config --hash: {done.last_line}")
    rows = (line.partition(" ") for line in done.out.splitlines())
    return {service: label.strip() for service, _, label in rows if label}


def complaints(settings: Settings, rendered: Rendered, environment: Mapping[str, str]) -> list[str]:
    """What is wrong with a colour's configuration, one line each.

    *environment* is the caller's own: a variable exported there would silently beat the env file for anybody who
    runs Compose by hand, so one that differs is refused.
    """
    where, values = str(settings.colours[rendered.colour].env_file), rendered.variables
    image, tag = rendered.image(settings.service), rendered.tag(settings.service)
    template = dotenv.read(settings.env_template) if settings.env_template else {}
    found = [
        *judge.incomplete(values, template, where),
        *judge.unpinned(image, tag, where, settings.tag_key),
        *judge.placeholders(values, where),
        *judge.broken_urls(values, where),
        *judge.exported(values, environment, where),
        *judge.own_data(values, settings.data_profiles, where, rendered.colour),
    ]
    if not rendered.port(settings.service):
        found.append(judge.no_port(str(settings.compose_file), settings.service))
    return [str(finding) for finding in found]


def is_private(path: Path) -> bool:
    """Whether only its owner can read *path*, and the owner is us or root."""
    status = path.stat()
    return not status.st_mode & 0o077 and status.st_uid in {os.geteuid(), 0}


def compose_version() -> None:
    """Ask for the version of `docker compose`; raises UsageProblem where there is none or it is too old."""
    done, needed = (
        host.run(("docker", "compose", "version", "--short"), deadline_s=DEADLINE_S),
        dotted(OLDEST),
    )
    if not done.ok:
        raise UsageProblem(
            f"docker compose does not answer: {done.last_line}; Compose {needed} or newer is needed"
        )
    said = done.out.strip()
    if version_of(said) < OLDEST:
        raise UsageProblem(f"docker compose is {said}: too old, {needed} or newer is needed")


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version like `v2.28.1-desktop.1` or `2.3.3+ds1`."""
    numbers = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in numbers[1].split(".")) if numbers else ()


def dotted(version: tuple[int, ...]) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))

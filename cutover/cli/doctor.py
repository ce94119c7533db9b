"""`cutover doctor`: everything that a release would stumble on, at once; nothing is changed."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutover.cli.main import common, files_option, tell
from cutover.core.config import Settings, find_config, load_config
from cutover.core.errors import ConfigError, EngineUnavailable, Failed
from cutover.core.masking import MASK
from cutover.core.verdict import Outcome
from cutover.env.lint import Finding
from cutover.system import compose, docker, process

if TYPE_CHECKING:
    from cutover.env.compose_rules import ComposeUse, Rule
    from cutover.release.colors import Colors
    from cutover.system.compose import Rendered

PROBE_TAG = "cutover-doctor"
"""A tag that no compose file has: it shows whether a release can choose the tag."""


@click.command("doctor")
@files_option("A compose file, without cutover.toml.")
@common
def doctor_command(config: str | None, as_json: bool, files: tuple[str, ...]) -> int:
    """Print everything that a release would stumble on, each with its way out. Nothing is changed.

    Before there is a cutover.toml, the engine and the compose file here are examined.
    Exits 0 if nothing was found, 1 with findings, 4 if a file cannot be read.
    """
    findings, problem = [*engine_findings(os.environ)], ""
    try:
        findings += examine(config, files, Path.cwd(), os.environ)
    except ConfigError as error:
        problem = str(error)
    found = list(dict.fromkeys(findings))
    tell(as_json, as_facts(found, problem), as_lines(found, problem))
    return ConfigError.exit_code if problem else Failed.exit_code if found else 0


def as_facts(found: Sequence[Finding], problem: str) -> dict[str, Any]:
    """Return the findings as JSON values; *problem* is why not all could be examined."""
    return {
        "ok": not found and not problem,
        "findings": [asdict(each) for each in found],
        "problem": problem or None,
    }


def as_lines(found: Sequence[Finding], problem: str) -> list[str]:
    """Return one line for each finding, and their number."""
    lines = [str(each) for each in found]
    if problem:
        return [*lines, f"cutover: {problem}"]
    number = len(found)
    return [
        *lines,
        f"{number} thing{'s' if number != 1 else ''} to correct" if number else "nothing to correct",
    ]


def examine(
    config: str | None, files: Sequence[str], here: Path, environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield the findings of the configuration, or of the compose file if there is none yet; raises ConfigError."""
    try:
        path = find_config(config, environment, here)
    except ConfigError:
        if config or environment.get("CUTOVER_CONFIG"):
            raise
        yield Finding("cutover.toml", f"there is none in {here}", "cutover init writes it")
        yield from unconfigured_findings(here, files, environment)
    else:
        yield from configured_findings(load_config(path, environment), environment)


# --- the host ---------------------------------------------------------------------------------------------------


def engine_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with the docker command, Compose, the chosen context and the engine."""
    if shutil.which("docker", path=process.FIXED_PATH) is None:
        yield Finding("docker", f"the command is not in {process.FIXED_PATH}", "install the Docker CLI there")
        return
    if environment.get("DOCKER_HOST") and environment.get("DOCKER_CONTEXT"):
        yield Finding("DOCKER_CONTEXT", "has no effect, because DOCKER_HOST is set", "unset one of them")
    try:
        process.docker_host()
    except ConfigError as error:
        yield Finding("docker", str(error), "docker context use default")
        return
    try:
        compose.require_compose()
        docker.client().api.version()
    except EngineUnavailable as error:
        todo = "start it (systemctl start docker), and let this user open its socket (group docker)"
        yield Finding("engine", str(error), todo)
    except ConfigError as error:
        yield Finding(
            "docker compose", str(error), "install the Compose plugin, or docker context use default"
        )
    except Exception as error:  # noqa: BLE001  the SDK raises many kinds
        yield Finding("engine", str(error), "see docker version")


# --- without cutover.toml ----------------------------------------------------------------------------------------


def unconfigured_findings(
    here: Path, files: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield what `cutover init` and a first release would stumble on."""
    from cutover.env.adoption import Choices, candidates, names_of, other_project, read_project
    from cutover.env.compose_rules import ComposeUse, compose_findings

    project = read_project(here, files, environment)
    where, likely = project.files[-1].name, candidates(project)
    if len(likely) != 1:
        what = f"{', '.join(likely)} may get the traffic" if likely else "no service may get the traffic"
        yield Finding(where, what, "cutover init --service NAME")
    for name in likely:
        tag_key = names_of(project, Choices((name,), "/", project.name)).tag
        facts = engine_facts(project.name, project.model, (name,))
        use = ComposeUse(
            where, project.name, project.model, (name,), project.source, tag_key=tag_key, **facts
        )
        alone = compose_findings(use)
        yield from alone
        twin = other_project(project, f"{project.name}_green")
        for each in compose_findings(replace(use, two_colors=True, other=twin)):
            if each not in alone:
                yield replace(each, what=f"{each.what} (for blue and green only)")


def engine_facts(
    project: str, model: Mapping[str, Any], services: Sequence[str], twin: str = ""
) -> dict[str, Any]:
    """Return what the engine knows of the services: images that are here, its architecture, what runs; else nothing.

    *twin* is the project of the other color, which has the same HEALTHCHECK.
    """
    there = model.get("services") or {}
    named = {name: str(there[name]["image"]) for name in services if there.get(name, {}).get("image")}
    try:
        images = {name: docker.inspect_image(image) for name, image in named.items()}
        containers = docker.containers(project)
        others = docker.containers(twin) if twin else []
        return {
            "images": {name: found for name, found in images.items() if found},
            "architecture": str(docker.client().api.version().get("Arch", "")),
            "running": {each.service for each in containers if each.running},
            "healthy": {each.service for each in [*containers, *others] if each.health_status == "healthy"},
        }
    except (EngineUnavailable, ConfigError):
        return {}


# --- with cutover.toml -------------------------------------------------------------------------------------------


def configured_findings(settings: Settings, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what a release with *settings* would stumble on; raises ConfigError if a color cannot be rendered."""
    from cutover.env.lint import lint_env_files
    from cutover.release.colors import inspect_colors

    linted = lint_env_files(settings, environment).findings
    yield from linted
    yield from state_findings(settings)
    rendered = rendered_unless_said(settings, linted)
    if not rendered:
        return
    yield from compose_file_findings(settings, rendered)
    for mine in rendered.values():
        yield from port_findings(settings, mine)
    try:
        colors = inspect_colors(settings)
        yield from restore_findings(colors)
        yield from proxy_findings(colors)
    except ConfigError as error:  # a command of [proxy] that is not installed
        what = str(error).removeprefix(f"{settings.source}: ")
        yield Finding(settings.source.name, what, "install it, or correct the line")
    yield from environment_findings(settings)


def rendered_unless_said(settings: Settings, linted: Sequence[Finding]) -> dict[str, Rendered]:
    """Each color as Compose renders it; empty if *linted* says already why one cannot be. Raises ConfigError."""
    if any(not each.env_file.is_file() for each in settings.colors.values()):
        return {}
    try:
        return {color: compose.render(settings, color) for color in settings.colors}
    except ConfigError as error:
        if settings.compose_file.is_file() and any(each.what in str(error) for each in linted):
            return {}
        raise


def compose_file_findings(
    settings: Settings, rendered: Mapping[str, Rendered], rules: Sequence[Rule] | None = None
) -> Iterator[Finding]:
    """Yield what *rules* (default: all) find in the compose file of each color."""
    from cutover.env.compose_rules import compose_findings

    for color, mine in rendered.items():
        other = next((each for name, each in rendered.items() if name != color), None)
        yield from compose_findings(probed_use(settings, mine, other), rules)


def probed_use(settings: Settings, rendered: Rendered, other: Rendered | None) -> ComposeUse:
    """How releases use a color, rendered with a tag that shows whether a release can choose it."""
    from cutover.env.compose_rules import use_of
    from cutover.release.deploy_checks import running_services

    probe = compose.render(settings, rendered.color, PROBE_TAG)
    twin = other.project if other else ""
    facts = engine_facts(rendered.project, rendered.model, (*settings.services, *settings.workers), twin)
    with contextlib.suppress(EngineUnavailable, ConfigError):
        facts["running"] = running_services(settings, rendered)
    source = compose.read_source(settings, rendered.color)
    return use_of(settings, probe, other, tag=PROBE_TAG, source=source, **facts)


def port_findings(settings: Settings, rendered: Rendered) -> Iterator[Finding]:
    """Yield the ports that another container or process has."""
    from cutover.release.deploy_checks import taken_ports

    with contextlib.suppress(EngineUnavailable):
        for line in taken_ports(settings, rendered):
            env_file = settings.colors[rendered.color].env_file.name
            yield Finding(env_file, line, f"another {settings.env_keys.port}, or stop what has it")


def restore_findings(colors: Colors) -> Iterator[Finding]:
    """Yield why what runs on a color could not be put back: it was started from another configuration."""
    from cutover.release.running import previous_of

    for color in colors.rendered:
        try:
            previous_of(colors, color, keep=False)
        except EngineUnavailable:
            return  # said above
        except ConfigError as error:
            settings = colors.settings
            files = (settings.compose_file, settings.colors[color].env_file, settings.compose_overrides)
            up = compose.Compose(settings.compose_project(color), *files).words("up", "--detach", "--no-deps")
            todo = f"or once, with a short gap: {shlex.join((*up, *settings.services))}"
            yield Finding(settings.colors[color].env_file.name, str(error), todo)


def proxy_findings(colors: Colors) -> Iterator[Finding]:
    """Yield why the proxy cannot be switched, and why its log does not show users' requests."""
    from cutover.release.preflight import log_problem

    if colors.proxy is None:
        return
    agreed = colors.proxy.agreed()
    if agreed.outcome is not Outcome.YES:
        yield Finding("[proxy]", agreed.reason, "start it with its configuration of deploy/proxy/README.md")
    elif problem := colors.proxy.color_problem():
        what, _, todo = problem.partition(": ")
        yield Finding("[proxy] color_header", what, todo)
    elif problem := log_problem(colors):
        yield Finding("[proxy]", problem, "the log format of deploy/proxy, readable by this user")


def state_findings(settings: Settings) -> Iterator[Finding]:
    """Yield why the state directory cannot be used, and what an earlier release left there."""
    from cutover.release.hold import Moment
    from cutover.release.state import State

    there = next(path for path in (settings.state, *settings.state.parents) if path.exists())
    if not there.is_dir():
        yield Finding(
            str(settings.state), f"{there} is a file", "state_dir in cutover.toml names another folder"
        )
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            str(settings.state), f"this user cannot write to {there}", "state_dir in cutover.toml, or chown"
        )
        return
    state = State(settings.state)
    if state.session_runs():
        yield Finding(str(settings.state), state.lock_line(), "wait for its end")
    elif held := state.held():
        yield Finding(str(settings.state), held.line(Moment.now()), held.way_out)
    elif left := state.open_release():
        yield Finding(
            str(settings.state), f"the release {left} of a session that died is open", "cutover recover"
        )


def environment_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what the watch would revert any release for: disk, certificate, alerts."""
    from cutover.release.deploy_checks import MIN_FREE_BYTES
    from cutover.release.preflight import environment_verdicts

    free = shutil.disk_usage(
        next(path for path in (settings.state, *settings.state.parents) if path.exists())
    ).free
    if free < MIN_FREE_BYTES:
        yield Finding(
            str(settings.state), f"{math.floor(free / 2**20)} MiB are free", "make room: 64 MiB are needed"
        )
    with contextlib.suppress(EngineUnavailable):
        for each in environment_verdicts(settings, watched=settings.proxy is not None):
            if (
                each.outcome in {Outcome.NO, Outcome.UNKNOWN}
                and each.question not in settings.checks.report_only
            ):
                todo = f'mend it, or report_only = ["{each.question}"] in [checks]'
                yield Finding(each.question, MASK(each.reason), todo)

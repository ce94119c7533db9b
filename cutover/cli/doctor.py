"""`cutover doctor`: everything that a release would stumble on, at once; `cutover env`: check or write env files."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from cutover.cli.main import common, files_option, json_option, settings_of, tell, writing
from cutover.core.config import Settings, find_config, load_config
from cutover.core.errors import ConfigError, EngineUnavailable, Failed
from cutover.core.masking import MASK
from cutover.core.text import count
from cutover.core.verdict import Finding, Outcome
from cutover.env.adoption import Choices, candidates, names_of, other_project, read_project
from cutover.env.compose_rules import REFUSING, ComposeUse, Rule, compose_findings, use_of
from cutover.env.envfile import SecretSources, render_env_file
from cutover.env.lint import LintReport, is_tracked, lint_env_files, parity_table
from cutover.gate.environment_checks import disk_room
from cutover.release import deploy_checks, preflight
from cutover.release.colors import Colors, inspect_colors
from cutover.release.history import Moment
from cutover.release.running import previous_of
from cutover.release.state import State
from cutover.system import compose, docker, process
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
    rows = [asdict(each) for each in found]
    return {"ok": not found and not problem, "findings": rows, "problem": problem or None}


def as_lines(found: Sequence[Finding], problem: str, none: str = "nothing to correct") -> list[str]:
    """Return one line for each finding, and their number; *none* if there is none."""
    end = f"{count(len(found), 'thing')} to correct" if found else none
    return [*map(str, found), f"cutover: {problem}" if problem else end]


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
        todo = "install the Compose plugin, or docker context use default"
        yield Finding("docker compose", str(error), todo)
    except Exception as error:  # noqa: BLE001  the SDK raises many kinds
        yield Finding("engine", str(error), "see docker version")


# --- without cutover.toml ----------------------------------------------------------------------------------------
def unconfigured_findings(
    here: Path, files: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield what `cutover init` and a first release would stumble on."""
    project = read_project(here, files, environment)
    where, likely = project.files[-1].name, candidates(project)
    if len(likely) != 1:
        what = f"{', '.join(likely)} may get the traffic" if likely else "no service may get the traffic"
        yield Finding(where, what, "cutover init --service NAME")
    for name in likely:
        tag_key = names_of(project, Choices((name,), "/", project.name)).tag
        facts = engine_facts(project.name, project.model, (name,))
        about = (where, project.name, project.model, (name,), project.source)
        use = ComposeUse(*about, tag_key=tag_key, **facts)
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
    for color, mine in rendered.items():
        other = next((each for name, each in rendered.items() if name != color), None)
        yield from compose_findings(probed_use(settings, mine, other), rules)


def probed_use(settings: Settings, rendered: Rendered, other: Rendered | None) -> ComposeUse:
    """How releases use a color, rendered with a tag that shows whether a release can choose it."""
    probe = compose.render(settings, rendered.color, PROBE_TAG)
    twin = other.project if other else ""
    facts = engine_facts(rendered.project, rendered.model, (*settings.services, *settings.workers), twin)
    with contextlib.suppress(EngineUnavailable, ConfigError):
        facts["running"] = deploy_checks.running_services(settings, rendered)
    source = compose.read_source(settings, rendered.color)
    return use_of(settings, probe, other, tag=PROBE_TAG, source=source, **facts)


def port_findings(settings: Settings, rendered: Rendered) -> Iterator[Finding]:
    """Yield the ports that another container or process has."""
    with contextlib.suppress(EngineUnavailable):
        for line in deploy_checks.taken_ports(settings, rendered):
            env_file = settings.colors[rendered.color].env_file.name
            yield Finding(env_file, line, f"another {settings.env_keys.port}, or stop what has it")


def restore_findings(colors: Colors) -> Iterator[Finding]:
    """Yield why what runs on a color could not be put back: it was started from another configuration."""
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
    if colors.proxy is None:
        return
    agreed = colors.proxy.agreed()
    if agreed.outcome is not Outcome.YES:
        yield Finding("[proxy]", agreed.reason, "start it with its configuration of deploy/proxy/README.md")
    elif problem := colors.proxy.color_problem():
        what, _, todo = problem.partition(": ")
        yield Finding("[proxy] color_header", what, todo)
    elif problem := preflight.log_problem(colors):
        yield Finding("[proxy]", problem, "the log format of deploy/proxy, readable by this user")


def state_findings(settings: Settings) -> Iterator[Finding]:
    """Yield why the state directory cannot be used, and what an earlier release left there."""
    where = str(settings.state)
    there = next(path for path in (settings.state, *settings.state.parents) if os.access(path, os.F_OK))
    if not there.is_dir():
        yield Finding(where, f"{there} is a file", "state_dir in cutover.toml names another folder")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        todo = "state_dir in cutover.toml, or chown"
        yield Finding(where, f"this user cannot write to {there}", todo)
        return
    state = State(settings.state)
    if state.session_runs():
        yield Finding(where, state.lock_line(), "wait for its end")
    elif held := state.held():
        yield Finding(where, held.line(Moment.now()), held.way_out)
    elif left := state.open_release():
        yield Finding(where, f"the release {left} of a session that died is open", "cutover recover")


def environment_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what the watch would revert any release for: disk, certificate, alerts."""
    free = disk_room(settings.state).free
    if free < deploy_checks.MIN_FREE_BYTES:
        text = f"{math.floor(free / 2**20)} MiB are free"
        yield Finding(str(settings.state), text, "make room: 64 MiB are needed")
    with contextlib.suppress(EngineUnavailable):
        for each in preflight.environment_verdicts(settings, watched=settings.proxy is not None):
            bad = each.outcome in {Outcome.NO, Outcome.UNKNOWN}
            if bad and each.question not in settings.checks.report_only:
                todo = f'mend it, or report_only = ["{each.question}"] in [checks]'
                yield Finding(each.question, MASK(each.reason), todo)


# --- cutover env --------------------------------------------------------------------------------------------------
@click.group("env")
def env_command() -> None:
    """Check the env files of the colors, or write one from a template with references to secrets."""


@env_command.command("check")
@common
def check_command(config: str | None, as_json: bool) -> int:
    """Check the env file of each color and compare the colors. One line for each finding; values are never shown.

    All keys of env_template are there, no placeholder, mode 0600, not tracked by git, a pinned tag, valid URLs; and
    the compose file has nothing for which a release would be refused. Exits 1 when there is a finding.
    """
    settings = settings_of(config)
    found = lint_env_files(settings, os.environ)
    rendered = rendered_unless_said(settings, found.findings)
    refused = compose_file_findings(settings, rendered, REFUSING)
    found = replace(found, findings=list(dict.fromkeys([*found.findings, *refused])))
    tell(as_json, parity_facts(found), parity_lines(found))
    return Failed.exit_code if found.findings else 0


def parity_facts(found: LintReport) -> dict[str, object]:
    """Return the findings and the comparison as JSON values."""
    facts = as_facts(found.findings, "")
    return {"ok": facts["ok"], "findings": facts["findings"], "parity": [asdict(row) for row in found.rows]}


def parity_lines(found: LintReport) -> list[str]:
    """Return the comparison, the findings, and their number as lines of text."""
    table = [*parity_table(found.rows, list(found.rows[0].shown)), ""] if found.rows else []
    return [*table, *as_lines(found.findings, "", f"{' and '.join(found.colors)}: nothing to correct")]


@env_command.command("render")
@click.argument("template", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o", "--output", "out", required=True, metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="The env file to write.",
)  # fmt: skip
@click.option(
    "--keep",
    multiple=True,
    default=("IMAGE_TAG",),
    show_default=True,
    metavar="KEY",
    help="A key whose value in FILE is kept.",
)
@json_option
def render_command(template: Path, out: Path, keep: Sequence[str], as_json: bool) -> int:
    """Write FILE (mode 0600) from TEMPLATE, with each reference replaced by its secret.

    \b
    op://vault/item/field     1Password, by its CLI `op`
    vault://mount/path#key    Vault or OpenBao: VAULT_ADDR, VAULT_TOKEN or VAULT_ROLE_ID and VAULT_SECRET_ID
    file:///path              the text of a file
    env:NAME                  a variable of this shell

    A reference is a whole value, or a part of one, as in redis://:{{ env:NAME | url }}@cache:6379/0,
    where `| url` percent-encodes it. If a reference cannot be resolved, FILE is not written (exit 4).
    """  # noqa: D301  # click reads a backspace as "do not wrap"
    if not out.resolve().parent.is_dir():
        raise ConfigError(f"{out}: there is no such folder")
    if is_tracked(out):
        raise ConfigError(f"{out} is tracked by git, and secrets are never committed: name another file")
    with writing(out):
        missing = render_env_file(template, out, SecretSources(os.environ), keep=keep)
    lines = [*missing, f"{out} was not written"] if missing else [f"wrote {out}, mode 0600"]
    tell(as_json, {"file": str(out), "written": not missing, "missing": missing}, lines)
    return ConfigError.exit_code if missing else 0

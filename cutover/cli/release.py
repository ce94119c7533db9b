"""Release a tag: compute the pytest command line and replace this process by it."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from cutover.release import gate_run


@click.command("release", context_settings={"ignore_unknown_options": True})
@click.argument("tag", required=False)
@click.option("--image-tag", metavar="TAG", help="The same as TAG.")
@click.option("--in-place", is_flag=True, help="Deploy to the live color and gate it; no switch, no watch.")
@click.option("--stage", is_flag=True, help="Deploy to the idle color and gate it; no switch, no watch.")
@click.option("--staged", is_flag=True, help="Switch to TAG, which the idle color has already; no deploy.")
@click.option(
    "--hosts", metavar="HOSTS", help='Release on the servers of [hosts]: "all", or names with commas.'
)
@click.option("--tests", multiple=True, metavar="PATH", help="A checklist of yours; repeatable.")
@click.option("--watch", metavar="DURATION", help='How long checks/ observe, like "15m".')
@click.option("--plan", is_flag=True, help="Print what would be done and undone, change nothing.")
@click.option("--cutover-config", "config", metavar="FILE", help="Another cutover.toml.")
@click.argument("pytest_options", nargs=-1, type=click.UNPROCESSED)
def release_command(  # noqa: PLR0913, PLR0917  # one for each option
    tag: str | None,
    image_tag: str | None,
    in_place: bool,
    stage: bool,
    staged: bool,
    hosts: str | None,
    tests: tuple[str, ...],
    watch: str | None,
    plan: bool,
    config: str | None,
    pytest_options: tuple[str, ...],
) -> None:
    """Deploy TAG to the idle color, gate it, switch, verify, gate again, watch; switch back at the first failure.

    Runs pytest in place of this process: its output and exit codes are those of `pytest --target=…`.
    Further options go to pytest, like --keep-on-failure, --skip-migrations or -v.

    The checklists are those named by --tests, else the folders `smoke` and `checks` here, else the shipped ones.
    """
    wanted = tag if image_tag is None else image_tag
    more = (tag, *pytest_options) if image_tag is not None and tag else pytest_options
    if not wanted or wanted.startswith("-"):
        raise click.UsageError("name the image tag to release, like: cutover release sha-4f1c2aa")
    if in_place + stage + staged + (hosts is not None) > 1:
        kinds = "--in-place, --stage, --staged and --hosts"
        raise click.UsageError(f"{kinds} are four kinds of release: choose one")
    if staged:
        # Imported here, because it asks the engine and is slow to import.
        from cutover.cli.main import settings_of
        from cutover.release.verify import require_staged

        require_staged(settings_of(config), wanted)
    options = (
        f"--target={'live' if in_place else 'idle'}",
        *([] if staged else [f"--deploy={wanted}"]),
        *([] if in_place or stage else ["--switch"]),
        *([f"--on-hosts={hosts}"] if hosts is not None else []),
        *([f"--watch={watch}"] if watch is not None else []),
        *(["--plan"] if plan else []),
        *([f"--cutover-config={config}"] if config is not None else []),
    )
    tests = tests or gate_run.checklists("smoke", *(() if in_place or stage else ("checks",)))
    if stage:
        tests = tuple(gate_run.without_checks(tests))
    replace_process(gate_run.pytest_argv(tests, (*options, *more)))


def replace_process(
    argv: tuple[str, ...], execute: Callable[[str, tuple[str, ...], dict[str, str]], object] = os.execve
) -> None:
    """Run *argv* in place of this process, without foreign pytest plugins: one can break every session."""
    execute(argv[0], argv, {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})

"""Run pytest as a child: the gate once more, or the deploy of a tag for rollback and rehearsal."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cutover.core.config import Settings
from cutover.core.evidence import count_outcomes, load_evidence
from cutover.core.verdict import Outcome, Verdict, no, not_asked, yes
from cutover.system import process

GATE_DEADLINE_S = 180.0
GATE_PLUGINS = ("cutover.plugin", "pytest_timeout")
ALL_PLUGINS = ("cutover.plugin", "pytest_html.plugin", "pytest_metadata.plugin", "pytest_timeout")


def checklists(*names: str, here: Path = Path()) -> tuple[str, ...]:
    """The folders *names* of *here* (`smoke`, `checks`) as pytest arguments; if missing, the installed ones."""
    found = tuple(name if (here / name).is_dir() else f"cutover.{name}" for name in names)
    return found if found == names else ("--pyargs", *found)


def without_checks(paths: Sequence[str]) -> list[str]:
    """*paths* without `checks`, which take as long as a watch."""
    return [path for path in paths if Path(path).name.split(".")[-1] != "checks"]


def pytest_argv(
    paths: Sequence[str], options: Sequence[str], plugins: Sequence[str] = ALL_PLUGINS
) -> tuple[str, ...]:
    """argv of a pytest session with these plugins only (see `pytest_environment`)."""
    loaded = (word for name in plugins for word in ("-p", name))
    return (sys.executable, "-m", "pytest", *loaded, *paths, *options)


def pytest_environment(**more: str) -> dict[str, str]:
    """The environment of `pytest_argv`: no plugin is loaded by itself, and no option is added from outside."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    return kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | more


def pytest_child(settings: Settings, *options: str) -> int:
    """Run a session with the shipped gate on this terminal, for example to deploy a tag; its exit code."""
    argv = pytest_argv(checklists("smoke"), (*options, f"--cutover-config={settings.source}"))
    with (
        subprocess.Popen(argv, env=pytest_environment()) as child,
        # It ends in order, and reverts what it did; killed, it would leave that to its guard.
        process.handling_signals(lambda number, _frame: child.send_signal(number)),
    ):
        return child.wait()


def run_gate(settings: Settings, paths: Sequence[str]) -> Verdict:
    """Whether the live color passes the gate of *paths* now; a gate that lasts longer than 180 s is not asked.

    The evidence `failed` of a no has the reason of each question that was answered no.
    """
    name, config = "smoke[live]", f"--cutover-config={settings.source}"
    options = ("--target=live", "--keep-on-failure", config, "-q", "--no-header")
    argv = pytest_argv(without_checks(paths), options, GATE_PLUGINS)
    with tempfile.TemporaryDirectory() as folder:
        environment = pytest_environment(CUTOVER_REPORTS=folder, CUTOVER_STATE_DIR=str(settings.state))
        done = process.run(argv, deadline_s=GATE_DEADLINE_S, environment=environment, cwd=str(Path.cwd()))
        files = [each for each in Path(folder).glob("*/evidence.jsonl") if not each.parent.is_symlink()]
        found = [load_evidence(each) for each in files]
    verdicts = [check.verdict for each in found for check in each.checks]
    bad = {each.question: each.reason for each in verdicts if each.outcome is Outcome.NO}
    if bad:
        question, reason = next(iter(bad.items()))
        return no(name, f"{question}: {reason}", failed=bad)
    if not done.ok:
        return not_asked(name, f"{name} not asked: {done.last_line}")
    return yes(name, f"{name} {sum(count_outcomes(each)[Outcome.YES] for each in found)} passed")

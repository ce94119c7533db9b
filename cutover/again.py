"""The gate once more, as a bounded child that only reads: after a revert, or for the live color on a new schema."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.system import process
from cutover.walk import Walk

DEADLINE_S = 180.0
PLUGINS = ("-p", "cutover.plugin", "-p", "pytest_timeout")
ALL_PLUGINS = (*PLUGINS, "-p", "pytest_html.plugin", "-p", "pytest_metadata.plugin")
SHIPPED = "smoke"


def shipped() -> tuple[str, ...]:
    """The shipped gate: the folder `smoke` here, else the one that the wheel carries."""
    return (SHIPPED,) if Path(SHIPPED).is_dir() else ("--pyargs", "cutover.smoke")


def gates(paths: Sequence[str]) -> list[str]:
    """The paths of a session without its checks: what may be asked in a moment."""
    return [path for path in paths if Path(path).name.split(".")[-1] != "checks"]


def gate(walk: Walk, paths: Sequence[str], target: str = "live") -> Verdict:
    """Whether *target* passes its gate now: no when a check failed; a gate that did not come to an end is not asked."""
    with tempfile.TemporaryDirectory() as folder:
        argv = (
            sys.executable,
            "-m",
            "pytest",
            *gates(paths),
            f"--target={target}",
            "--keep-on-failure",
            f"--cutover-config={walk.settings.source}",
            *PLUGINS,
            "-q",
            "--no-header",
        )
        environment = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
        environment |= {
            "CUTOVER_REPORTS": folder,
            "CUTOVER_STATE_DIR": str(walk.settings.state),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        done = process.run(argv, deadline_s=DEADLINE_S, environment=environment, cwd=str(Path.cwd()))
        rows = _checks(Path(folder))
    bad, name = [row for row in rows if row["verdict"]["outcome"] == "no"], f"smoke[{target}]"
    if bad:
        return no(name, f"{bad[0]['verdict']['question']}: {bad[0]['verdict']['reason']}")
    if not done.ok:
        return not_asked(name, f"{name} not asked: {done.last_line}")
    return yes(name, f"{name} {len({row['test'] for row in rows})} passed")


def _checks(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for file in folder.glob("*/evidence.jsonl"):
        if file.parent.is_symlink():
            continue
        rows += [
            row
            for row in map(json.loads, file.read_text(encoding="utf-8").splitlines())
            if row.get("kind") == "check"
        ]
    return rows

"""The GitHub workflows of the project, parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github/workflows"


def read(name: str) -> dict[str, Any]:
    """The workflow in the file *name*; every scalar is a string."""
    # YAML 1.1 reads the key `on` as a boolean; BaseLoader converts nothing.
    workflow: dict[str, Any] = yaml.load((FOLDER / name).read_text(encoding="utf-8"), yaml.BaseLoader)  # noqa: S506 - strings only
    return workflow


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Each step of each job, in order."""
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def lines(workflow: dict[str, Any], name: str) -> str:
    """The `run` lines of the step *name*."""
    return next(str(step["run"]) for step in steps(workflow) if step["name"] == name)

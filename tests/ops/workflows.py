"""GitHub workflows, read by the YAML reader that is here anyway: Compose's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github/workflows"


def read(name: str) -> dict[str, Any]:
    """The workflow of that file."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    indented = "".join(f"  {line}\n" if line else "\n" for line in text.split("\n"))
    document = "services: {}\nx-workflow:\n" + indented
    words = ("docker", "compose", "--project-name", "reader", "--file", "-")
    done = subprocess.run(
        (*words, "config", "--no-interpolate", "--format", "json"),
        input=document,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)["x-workflow"]
    return found


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Each step of each job."""
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


def lines(workflow: dict[str, Any], name: str) -> str:
    """What the step of that name runs."""
    return next(str(step["run"]) for step in steps(workflow) if step["name"] == name)

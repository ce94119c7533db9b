"""The plugin in an environment in which nobody releases."""

from __future__ import annotations

import subprocess
import sys


def test_a_session_without_a_target_loads_nothing_heavy() -> None:
    """Every pytest session of an environment loads the plugin: settings, HTTP and Docker are for those who release."""
    script = (
        "import sys, pytest, cutover.plugin\n"
        "print(sorted({'pydantic', 'httpx', 'docker', 'testinfra', 'click', 'hvac'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"

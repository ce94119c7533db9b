"""A host that is this one: its commands run in a login shell here, whose start file prints a line first."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from cutover.system.process import Argv
from cutover.system.ssh import SshHost


@dataclass(frozen=True, slots=True)
class NearHost(SshHost):
    """A host without ssh, and what the start file of its shell does before each command."""

    starts: str = "echo Welcome"

    def argv(self, script: str) -> Argv:
        """The command that runs a line of POSIX shell as the shell of the host does."""
        return ("sh", "-c", f"{self.starts}\nsh -c {shlex.quote(script)}")

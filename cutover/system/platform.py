"""Where colors run: the command lines of one color, by Docker Compose or by Docker Swarm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from cutover.core.config import Settings
from cutover.system.compose import Compose
from cutover.system.container import Container
from cutover.system.process import Argv
from cutover.system.swarm import Stack


class Project(Protocol):
    """One color with the file that it runs from."""

    @property
    def project(self) -> str:
        """The name of the Compose project or of the stack."""

    @property
    def restore_script(self) -> str:
        """The shell file that restores a service: `SCRIPT PROJECT SERVICE ID COMMAND...`."""

    def at(self, file: Path) -> Project:
        """Return the same color with another release file."""

    def up(self, *services: str, wait_s: float) -> Argv:
        """Return the argv that runs *services* as the file says and waits at most *wait_s* until they are healthy."""

    def stop(self, *services: str) -> Argv:
        """Return the argv that stops *services* within their stop_grace_period."""

    def stop_without_file(self, services: Sequence[str], running: Sequence[Container]) -> list[Argv]:
        """Return what stops *services*, whose containers on this host are *running*, if no release file is at hand."""


def project_of(settings: Settings, color: str, file: Path) -> Project:
    """Return *color* as it runs from the release file *file*."""
    name = settings.compose_project(color)
    return Stack(name, file) if settings.platform.kind == "swarm" else Compose(name, file)

"""The changes that start and stop the services of a color, and the undo lines that restore what ran before."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cutover.core.change import Argv, Change, line
from cutover.release.colors import can_tag, tag_of
from cutover.system.container import GRACE_S, Container
from cutover.system.platform import Project

MARGIN_S = 60.0
ANSWER_BUDGET_S = 5.0


@dataclass(frozen=True, slots=True)
class PreviousRelease:
    """What ran on a color before, and how it is restored."""

    file: Path
    """The rendered release file."""
    containers: Mapping[str, str]
    """Service -> its container id, for the services that ran."""
    images: Mapping[str, str]
    """Image name in the file -> image ID."""
    wait_s: float
    """How long to wait for it to become healthy; 0 if it was not healthy before."""
    text: str = ""
    """The content of the file, if no record has it: a plan does not write it."""
    lost: tuple[str, ...] = ()
    """What cannot be restored, because no compose file says it."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    """Service -> how many containers it had, which need not be as many as the file says."""

    @classmethod
    def of(  # noqa: PLR0913  # facts that only the caller knows
        cls,
        file: Path,
        ran: Mapping[str, Container],
        wait_s: float,
        container: str = "",
        *,
        text: str = "",
        lost: tuple[str, ...] = (),
        replicas: Mapping[str, int] | None = None,
    ) -> PreviousRelease:
        """How the services that *ran* are restored from *file*, with *container* in place of their own ids."""
        ids = {service: container or each.id for service, each in ran.items()}
        named = image_names(text) if text else images_of_file(file)
        images = {_name_in(named.get(service, ""), each): each.image for service, each in ran.items()}
        # One that was not healthy will not become so: do not wait for it, or its fix could never be released.
        wait_s = wait_s if all(each.well for each in ran.values()) else 0.0
        return cls(file, ids, images, wait_s, text, lost, replicas or {})

    def up(self, project: Project, service: str) -> Argv:
        """The argv that starts *service* of *project* again, in as many containers as it had."""
        number = self.replicas.get(service, 1)
        scale = ("--scale", f"{service}={number}") if number > 1 else ()
        return (*project.at(self.file).up(service, wait_s=self.wait_s), *scale)


def image_names(text: str) -> dict[str, str]:
    """Service -> the image that the release file *text* names for it; nothing if it is none that we have written."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        rows = json.loads(text)["services"].items()
        return {name: str(each["image"]) for name, each in rows if each.get("image")}
    return {}


def images_of_file(file: Path) -> dict[str, str]:
    """What `image_names` finds in the release file *file*; nothing if that cannot be read."""
    with contextlib.suppress(OSError):
        return image_names(file.read_text(encoding="utf-8", errors="replace"))
    return {}


def _name_in(file_name: str, container: Container) -> str:
    """The name by which the file starts the image of *container*.

    Podman knows app:1 as localhost/app:1. A file with another tag is not the one that *container* was started from.
    """
    return file_name if tag_of(file_name) == tag_of(container.image_name) else container.image_name


def up_change(  # noqa: PLR0913  # facts that only the caller knows
    state: Path,
    project: Project,
    services: tuple[str, ...],
    *,
    text: str,
    wait_s: float,
    previous: PreviousRelease | None,
    grace_s: float = GRACE_S,
) -> Change:
    """Start *services* of a rendered release and wait at most *wait_s* until they are healthy.

    *grace_s* is the longest stop_grace_period of the containers that may have to be stopped.
    """
    undo = undo_lines(state, project, services, previous, grace_s)
    return Change("up", text, project.up(*services, wait_s=wait_s), undo, grace_s + wait_s + MARGIN_S)


def stop_change(
    state: Path, project: Project, color: str, previous: PreviousRelease, grace_s: float
) -> Change:
    """Stop the services of *previous* on *color*, each within its own stop_grace_period."""
    services = tuple(previous.containers)
    undo = undo_lines(state, project, services, previous, grace_s)
    text = f"{', '.join(services)} on {color}"
    return Change("stop", text, project.stop(*services), undo, grace_s + MARGIN_S)


def undo_lines(
    state: Path,
    project: Project,
    services: tuple[str, ...],
    previous: PreviousRelease | None,
    grace_s: float = GRACE_S,
) -> tuple[str, ...]:
    """Undo lines that restore *previous*; a service that did not run before is removed."""
    script, bound = str(state / project.restore_script), grace_s + 110
    # The file names the image by its tag, and the tag may have moved.
    images = previous.images.items() if previous else ()
    lines = [line("docker", "tag", image, name, within_s=30) for name, image in images if can_tag(name)]
    for service in services:
        ran = previous.containers.get(service) if previous else None
        if previous is None or ran is None:
            lines.append(line("sh", script, project.project, service, "", "true", within_s=bound))
            continue
        argv, within_s = previous.up(project, service), bound + previous.wait_s
        lines.append(line("sh", script, project.project, service, ran, *argv, within_s=within_s))
    return tuple(lines)


def ensure_line(state: Path, project: Project, service: str, old: PreviousRelease) -> str:
    """Undo line that starts *service* of *project* from the file of *old* unless it runs."""
    argv = old.up(project, service)
    script = str(state / "ensure-running.sh")
    return line("sh", script, project.project, service, *argv, within_s=old.wait_s + 60)


def answers_line(state: Path, ensure: str, port: int, path: str) -> str:
    """Undo line that starts the color on *port* by the line *ensure*, unless it answers: that needs no engine."""
    answers = line("sh", str(state / "answers.sh"), str(port), path, within_s=ANSWER_BUDGET_S)
    return f"{answers} || {ensure}"


def back_lines(
    backs: Sequence[tuple[str, Sequence[str]]], before: str = "", ensure: str = ""
) -> tuple[tuple[str, ...], ...]:
    """Undo lines of the switch of each proxy: its name and the lines that switch it back and drain it.

    *before* comes first, *ensure* when all are switched back. The undo of the first proxy is run last: it waits for
    the others, which are switched back at the same time, and fails if one of them has failed.
    """
    before_all, after_all = tuple(filter(None, [before])), tuple(filter(None, [ensure]))
    if len(backs) == 1:
        (_, (flip, *rest)), *_ = backs
        return ((*before_all, flip, *after_all, *rest),)
    runs = [f'{{ {" && ".join(lines)}; }} & backs="${{backs-}} {name}:$!"' for name, lines in backs]
    each = [(*before_all, run) for run in runs]
    wait = 'failed=; for each in $backs; do wait "${each##*:}" || failed="$failed ${each%:*}"; done'
    tell = '[ -z "$failed" ] || { echo "could not be switched back:$failed" >&2; exit 1; }'
    return ((*each[0], wait, *after_all, tell), *each[1:])

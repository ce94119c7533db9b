"""The running copy of the service that is asked: a color, what the proxy serves, or a plain URL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["color", "live", "url"]


@dataclass(frozen=True, slots=True)
class Target:
    """Whom the questions go to.

    `name` is what people read (`green`, `live`, a URL); `color` is the Compose project behind it, None for a
    plain URL; `base_url` is where it is asked; `tag` is the release that it should be, None if nobody knows.
    """

    name: str
    kind: Kind
    base_url: str
    color: str | None = None
    project: str | None = None
    service: str = "api"
    port: int = 0
    tag: str | None = None
    through_proxy: bool = False

    def __str__(self) -> str:
        """Its name, as in test ids."""
        return self.name


@dataclass(frozen=True, slots=True)
class ControlProbe:
    """Tells whether the way to the service is known good, so that silence can be told from a cut cable.

    `answers` asks the engine (does the container run, or has it died?) or the proxy's own static location; True:
    the way is good and silence is the service's own. `how` names what was asked.
    """

    answers: Callable[[], bool]
    how: str = ""

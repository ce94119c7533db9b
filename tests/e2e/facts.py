"""State that is compared before and after a step: containers, status, recorded releases, schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.helpers.ssh_server import Server

STATE = "/var/lib/cutover/recall"
LISTED = """
docker ps --all --quiet --filter label=com.docker.compose.service=api --filter label=com.docker.compose.oneoff=False |
    xargs --no-run-if-empty docker inspect --format '{{index .Config.Labels "com.docker.compose.project"}} {{.State.Status}} {{.Image}} {{.Id}}'
"""


class Unexpected(Exception):
    """A step did not end as expected."""


def must(holds: object, what: str) -> None:
    """Raise Unexpected unless *holds*."""
    if not holds:
        raise Unexpected(what)


@dataclass(frozen=True, slots=True)
class Facts:
    """State of a server."""

    status: Mapping[str, Any]
    """Output of `cutover status --json`, without the time of the request and the last event."""
    containers: tuple[str, ...]
    """Project, state, image and id of each container of the colors, sorted."""
    releases: tuple[str, ...]
    """The rendered release files with their digests."""
    tags: tuple[str, ...]
    """The IMAGE_TAG lines of the env files."""
    head: str

    @classmethod
    def of(cls, web: Server, head: str) -> Facts:
        """Read the state of *web*."""
        status = json.loads(web.run(".venv/bin/cutover status --json").splitlines()[-1])
        return cls(
            {key: value for key, value in status.items() if key not in {"asked_s", "last"}},
            tuple(sorted(web.run(LISTED).splitlines())),
            tuple(
                web.run(f"cd {STATE}; find releases -name '*.yml' -exec sha256sum {{}} + | sort").splitlines()
            ),
            tuple(web.run("grep ^IMAGE_TAG= deploy/.env.blue deploy/.env.green").splitlines()),
            head,
        )

    @property
    def idle_color(self) -> str:
        """The color without traffic."""
        return "blue" if self.status["live"] == "green" else "green"

    @property
    def live(self) -> Mapping[str, Any]:
        """Status of the live color."""
        found: Mapping[str, Any] = self.status["colors"][self.status["live"]]
        return found

    @property
    def idle(self) -> Mapping[str, Any]:
        """Status of the idle color."""
        found: Mapping[str, Any] = self.status["colors"][self.idle_color]
        return found

    @property
    def live_tag(self) -> str:
        """The live tag."""
        return str(self.live["tag"])

    @property
    def idle_tag(self) -> str:
        """The tag on the idle color."""
        return str(self.idle["tag"])

    def same_for_users(self, before: Facts) -> None:
        """Raise Unexpected unless the live container is the same as *before*, and no release is open."""
        must(self.status["live"] == before.status["live"], f"live is {self.status['live']}")
        must(self.live == before.live, f"live was {before.live}, is {self.live}")
        must(self.status["open"] is None and not self.status["releasing"], f"open: {self.status['open']}")
        must(self.tags == before.tags, f"env files said {before.tags}, say {self.tags}")

    def same_when_idle(self, before: Facts) -> None:
        """Raise Unexpected unless the idle color has the image and state of *before*, in a new container."""
        was, now = ({key: each.get(key) for key in ("tag", "state")} for each in (before.idle, self.idle))
        must(now == was, f"idle was {was}, is {now}")
        ran, runs = ([each.rpartition(" ")[0] for each in facts.containers] for facts in (before, self))
        must(runs == ran, f"containers were {ran}, are {runs}")
        must(set(before.releases) <= set(self.releases), "a rendered release is gone")

    def same(self, before: Facts) -> None:
        """Raise Unexpected if anything has changed."""
        for name in ("head", "containers", "tags", "status"):
            was, now = getattr(before, name), getattr(self, name)
            must(now == was, f"{name}: was {was}, is {now}")
        # The rendered file of a rejected release stays until the next good release prunes it.
        must(set(before.releases) <= set(self.releases), "a rendered release is gone or was changed")

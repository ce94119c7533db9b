"""A world of two colors on the mock engine, whose releases are changed by the real changes and real shell files."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cutover.core.change import Change
from cutover.proxy.base import other
from cutover.proxy.nginx import flip, read_marker
from cutover.release.changes import (
    PreviousRelease,
    answers_line,
    back_lines,
    ensure_line,
    stop_change,
    up_change,
)
from cutover.release.state import State
from cutover.system import process
from cutover.system.compose import Compose
from tests.crash import mock_engine
from tests.helpers.proxy_files import create_marker

SERVICES = ("api", "worker")
WAIT_S = 20.0


@dataclass(slots=True)
class World:
    """A state directory, a marker, and what the mock engine has."""

    root: Path
    state: State
    marker: Path

    @classmethod
    def at(cls, root: Path, live: str) -> World:
        """A new world in *root*, where nothing runs."""
        made = cls(root, State(root / "state"), root / "live")
        made.state.prepare()
        create_marker(made.marker, live)
        empty = {
            "images": [],
            "tags": {},
            "containers": {},
            "sick": [],
            "slow": {},
            "slow_images": {},
            "mode": "",
            "pending": [],
            "deaths": [],
            "turn": 0,
        }
        made.memory.write_text(json.dumps(empty | {"made": 0}))
        words = shlex.join((sys.executable, "-I", "-S", str(Path(mock_engine.__file__)), str(made.memory)))
        (root / "bin").mkdir()
        (root / "bin" / "docker").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (root / "bin" / "docker").chmod(0o755)
        return made

    @property
    def memory(self) -> Path:
        """What the mock engine remembers."""
        return self.root / "engine.json"

    @property
    def engine(self) -> mock_engine.Engine:
        """The mock engine as it is now."""
        return mock_engine.Engine(self.memory)

    @contextmanager
    def on_path(self) -> Iterator[None]:
        """Within it every shell line finds the mock engine first."""
        real = process.FIXED_PATH
        process.FIXED_PATH = f"{self.root / 'bin'}:{real}"
        try:
            yield
        finally:
            process.FIXED_PATH = real

    def file(self, color: str, version: str) -> Path:
        """The release file of that version, whose image is there."""
        path = self.state.release_folder(color) / f"{version}.yml"
        services = {each: {"image": f"recall:{version}"} for each in SERVICES}
        path.write_text(json.dumps({"services": services, "color": color}))
        engine = self.engine
        engine.memory["tags"].setdefault(f"recall:{version}", f"sha256:{version}")
        engine.save()
        return path

    def put(self, color: str, service: str, version: str, status: str) -> None:
        """Something ran there before anybody came."""
        path = self.file(color, version)
        engine = self.engine
        engine.make(f"recall_{color}", service, f"sha256:{version}", path.read_text(), status)
        engine.save()

    def sicken(self, *versions: str) -> None:
        """Containers of these versions are never healthy."""
        engine = self.engine
        engine.memory["sick"] = [f"sha256:{each}" for each in versions]
        engine.save()

    def remember(self, **facts: object) -> None:
        """Set what the mock engine remembers."""
        engine = self.engine
        engine.memory.update(facts)
        engine.save()

    def seen(self) -> dict[str, list[str]]:
        """What runs of each service of each color once nothing is pending any more, and who is live."""
        engine = self.engine
        engine.land(now=True)
        found = {f"{color} {service}": list[str]() for color in ("blue", "green") for service in SERVICES}
        for each in engine.memory["containers"].values():
            if each["status"] == "running":
                found[f"{each['project'].removeprefix('recall_')} {each['service']}"].append(each["image"])
        return found | {"live": [str(read_marker(self.marker).color)]}

    # --- the changes ---------------------------------------------------------------------------------------------
    def previous(self, color: str, services: tuple[str, ...]) -> PreviousRelease | None:
        """How what runs on *color* now is put back, as preflight finds it."""
        engine = self.engine
        ran = {
            each["service"]: (name, each)
            for name, each in engine.memory["containers"].items()
            if each["project"] == f"recall_{color}"
            and each["service"] in services
            and each["status"] == "running"
        }
        if not ran:
            return None
        first = next(iter(ran.values()))[1]
        version = first["image"].removeprefix("sha256:")
        well = all(engine.health(name) == "healthy" for name, _ in ran.values())
        return PreviousRelease(
            self.file(color, version),
            {service: name for service, (name, _) in ran.items()},
            {f"recall:{version}": first["image"]},
            WAIT_S if well else 0.0,
        )

    def deploy(self, color: str, version: str) -> Change:
        """The real `up` of both services together."""
        compose = Compose(f"recall_{color}", self.file(color, version))
        previous = self.previous(color, SERVICES)
        return up_change(self.state.root, compose, SERVICES, text=version, wait_s=WAIT_S, previous=previous)

    def rest(self, color: str) -> Change | None:
        """The real stop of a consumer; None where none runs."""
        previous = self.previous(color, ("worker",))
        if previous is None:
            return None
        named = PreviousRelease(previous.file, {"worker": "this release"}, previous.images, previous.wait_s)
        compose = Compose(f"recall_{color}", previous.file)
        return stop_change(self.state.root, compose, color, named, 10.0)

    def switch(self, port: int = 9) -> Change:
        """The real flip of nginx; its undo leads back to the old color, which may answer on *port*."""
        old = str(read_marker(self.marker).color)
        previous = self.previous(old, ("api",))
        there = flip(self.marker, other(old))
        undo: tuple[str, ...] = (shlex.join(flip(self.marker, old)),)
        if previous:
            compose = Compose(f"recall_{old}", previous.file)
            ensure = ensure_line(self.state.root, compose, "api", previous)
            before = answers_line(self.state.root, ensure, port, "/readyz")
            (undo,) = back_lines([("", undo)], before, ensure)
        return Change("switch", "flip", there, undo, 60.0)

"""A mock of `docker` for the shell lines of an undo: it remembers, and it dies when told to, as the real one does.

usage: mock_engine.py FILE WORDS...: FILE is its memory, the words are those of docker.
What it gets right is what `put back` must survive: Compose makes the new container before it stops the old one, a
killed client leaves its stop pending in the engine, and `up --wait` fails on what is not healthy.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

PENDING_FOR = 6
"""So many commands later a stop that a killed client has left behind takes effect."""
MUTE_S = 6.0
LABEL = "label=com.docker.compose."


class Engine:
    """The memory between two commands: images, tags, containers, stops that are pending."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.memory: dict[str, Any] = json.loads(file.read_text())

    def save(self) -> None:
        """Write it all down."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(json.dumps(self.memory))
        draft.replace(self.file)

    def turn(self) -> None:
        """One step of the engine; the client and the shell line that it is of die here when their time has come."""
        self.memory["turn"] += 1
        self.save()
        if self.memory["turn"] in self.memory["deaths"]:
            os.killpg(os.getpgrp(), signal.SIGKILL)

    def land(self, *, now: bool = False) -> None:
        """Let pending stops take effect: those whose time has come, or all of them."""
        left = []
        for name, commands in self.memory["pending"]:
            if now or commands <= 1:
                self.set(name, status="exited")
            else:
                left.append([name, commands - 1])
        self.memory["pending"] = left
        self.save()

    def set(self, name: str, **facts: str) -> None:
        """Change a container, if it is still there."""
        if name in self.memory["containers"]:
            self.memory["containers"][name].update(facts)

    def make(self, project: str, service: str, image: str, text: str, status: str) -> str:
        """A new container; its name."""
        self.memory["made"] += 1
        name = f"c{self.memory['made']}"
        facts = {"project": project, "service": service, "image": image, "text": text, "status": status}
        self.memory["containers"][name] = facts
        if image in self.memory["slow_images"]:
            self.memory["slow"][name] = self.memory["slow_images"][image]
        return name

    def health(self, name: str) -> str:
        """What its HEALTHCHECK says; one that starts slowly is unhealthy for so many waits."""
        found = self.memory["containers"][name]
        sick = found["image"] in self.memory["sick"] or self.memory["slow"].get(name, 0) > 0
        return "unhealthy" if sick or found["status"] != "running" else "healthy"

    # --- the commands --------------------------------------------------------------------------------------------
    def ps(self, *words: str) -> int:
        """`docker ps`, by the filters that our shell files use; all of one kind must hold, but one health is enough."""
        filters = [words[at + 1] for at, word in enumerate(words) if word == "--filter"]
        health = {each.removeprefix("health=") for each in filters if each.startswith("health=")}
        for name, found in reversed(self.memory["containers"].items()):  # the newest first
            labels = {f"{LABEL}{key}={found[key]}" for key in ("project", "service")} | {
                f"{LABEL}oneoff=False"
            }
            wanted = {each for each in filters if each.startswith("label=")}
            there = "--all" in words or found["status"] == "running"
            status = "status=running" not in filters or found["status"] == "running"
            if wanted <= labels and there and status and (not health or self.health(name) in health):
                print(name)  # noqa: T201 - it is a command
        return 0

    def stop(self, name: str) -> int:
        """`docker stop`: the engine goes on with it when its client is killed."""
        if name not in self.memory["containers"]:
            return 1
        self.memory["pending"].append([name, PENDING_FOR])
        self.turn()
        self.memory["pending"].pop()
        self.set(name, status="exited")
        self.turn()
        return 0

    def rm(self, _force: str, name: str) -> int:
        """`docker rm --force`."""
        self.memory["containers"].pop(name, None)
        self.turn()
        return 0

    def tag(self, image: str, reference: str) -> int:
        """`docker tag`."""
        self.memory["tags"][reference] = image
        self.turn()
        return 0

    def compose(self, _name: str, project: str, _file: str, file: str, verb: str, *words: str) -> int:
        """`docker compose --project-name P --file F up|stop … SERVICE...`."""
        text = Path(file).read_text()
        for service in (each for each in words if each in json.loads(text)["services"]):
            there = [
                name
                for name, each in self.memory["containers"].items()
                if (each["project"], each["service"]) == (project, service)
            ]
            if verb == "stop":
                for name in there:
                    self.stop(name)
            elif not self._up(project, service, text, there, wait="--wait" in words):
                print(f"{service} of {project} is unhealthy", file=sys.stderr)  # noqa: T201 - it is a command
                return 1
        return 0

    def _up(self, project: str, service: str, text: str, there: list[str], *, wait: bool) -> bool:
        image = self.memory["tags"][json.loads(text)["services"][service]["image"]]
        same = [
            name
            for name in there
            if (self.memory["containers"][name]["image"], self.memory["containers"][name]["text"])
            == (image, text)
        ]
        if same and there == same:
            name = same[0]  # one that runs is left alone, whatever its engine still has pending
        else:
            name = self.make(project, service, image, text, "created")
            self.turn()
            for old in there:
                self.stop(old)
                self.rm("--force", old)
        self.set(name, status="running")
        self.turn()
        if not wait or self.health(name) == "healthy":
            return True
        self.memory["slow"][name] = self.memory["slow"].get(name, 0) - 1
        return False


def main() -> int:
    """Run one command."""
    engine = Engine(Path(sys.argv[1]))
    if engine.memory["mode"] == "refuses":
        print("Cannot connect to the Docker daemon", file=sys.stderr)  # noqa: T201 - it is a command
        return 1
    if engine.memory["mode"] == "mute":
        time.sleep(MUTE_S)
        return 1
    engine.land()
    verb, *words = sys.argv[2:]
    try:
        code: int = getattr(engine, verb)(*words)
    finally:
        engine.save()
    return code


if __name__ == "__main__":
    sys.exit(main())

"""Containers as Docker Engine 20.10 describes them, reduced to the fields that the checks read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cutover.core.errors import EngineUnavailable
from cutover.gate.container_checks import EngineAccess
from cutover.system.container import ZERO_TIME, Container, read_container

STARTED = "2025-09-04T01:10:00.5Z"
IMAGE = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
ID = "c" * 64
CHECK = {"Test": ["CMD-SHELL", "curl -f localhost:8000/readyz"], "Interval": int(1e9), "Timeout": int(2e9)}


def at(seconds: float) -> str:
    """The time stamp *seconds* after the start."""
    return f"2025-09-04T01:{10 + int(seconds + 0.5) // 60:02d}:{(seconds + 0.5) % 60:012.9f}Z"


def probe(seconds: float, code: int = 0, said: str = "") -> dict[str, Any]:
    """One entry of the health log, ended *seconds* after the start."""
    return {"Start": at(seconds - 0.05), "End": at(seconds), "ExitCode": code, "Output": said}


def health(status: str, *log: dict[str, Any], streak: int = 0) -> dict[str, Any]:
    """`State.Health`."""
    return {"Status": status, "FailingStreak": streak, "Log": list(log)}


def container(
    status: str = "running",
    health: dict[str, Any] | None = None,
    *,
    id_: str = ID,
    image: str = IMAGE,
    started: str = STARTED,
    finished: str = ZERO_TIME,
    restarts: int = 0,
    exit_code: int = 0,
    oom: bool = False,
    error: str = "",
    check: dict[str, Any] | None = None,
    ports: dict[str, Any] | None = None,
    config_hash: str = "d" * 64,
    name: str = "recall_green-api-1",
) -> Container:
    """A container of the service."""
    state = {
        "Status": status, "StartedAt": started, "FinishedAt": finished, "ExitCode": exit_code,
        "OOMKilled": oom, "Error": error,
    }  # fmt: skip
    return read_container({
        "Id": id_, "Name": f"/{name}", "Image": image, "RestartCount": restarts,
        "State": state | ({"Health": health} if health else {}),
        "Config": {
            "Image": "recall:sha-2", "Healthcheck": CHECK if check is None else check,
            "Labels": {"com.docker.compose.config-hash": config_hash},
        },
        "HostConfig": {},
        "NetworkSettings": {"Ports": ports or {}},
    })  # fmt: skip


class Engine:
    """An engine that returns one answer of a list each time, with a clock that `sleep` advances."""

    def __init__(self, *answers: Container | EngineUnavailable | None, log: Sequence[str] = ()) -> None:
        self.answers, self.log, self.now = list(answers), log, 0.0
        self.naps: list[float] = []

    def inspect(self, _container_id: str) -> Container | None:
        """The next answer; the last one is repeated."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, EngineUnavailable):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        """Advance the clock by *seconds*."""
        self.naps.append(seconds)
        self.now += seconds

    def asked(self, now: Callable[[], str] | None = None) -> EngineAccess:
        """The engine as an argument of a check."""
        return EngineAccess(
            inspect=self.inspect, logs=lambda _id: self.log, now=now or (lambda: at(self.now)),
            clock=lambda: self.now, sleep=self.sleep,
        )  # fmt: skip

"""Containers as returned by `docker inspect`, for parametrized tests."""

from __future__ import annotations

from typing import Any

from cutover.system.container import Container, read_container


def container(**changes: Any) -> Container:
    """A healthy container; *changes* are keys of `State`, or `id`, `restart_count`, `memory`, `cpus`."""
    top = {key: changes.pop(key) for key in ("id", "restart_count", "memory", "cpus") if key in changes}
    state: dict[str, Any] = {
        "Status": "running",
        "StartedAt": "2026-01-01T00:00:10.5Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "ExitCode": 0,
        "Health": {"Status": "healthy", "FailingStreak": 0, "Log": [PROBE]},
    }
    return read_container(
        {
            "Id": top.get("id", "a" * 64),
            "Name": "/recall_green-api-1",
            "Image": "sha256:1",
            "RestartCount": top.get("restart_count", 0),
            "State": state | changes,
            "Config": {"Image": "recall/api:sha-2", "Healthcheck": {"Test": ["CMD", "ask"]}},
            "HostConfig": {"Memory": top.get("memory", 0), "NanoCpus": int(top.get("cpus", 0) * 1e9)},
        }
    )


PROBE = {"Start": "2026-01-01T00:00:11Z", "End": "2026-01-01T00:00:12Z", "ExitCode": 0, "Output": "ok"}
FAILED = PROBE | {"ExitCode": 1, "Output": "503 db: connection refused"}
UNHEALTHY = {"Status": "unhealthy", "FailingStreak": 3, "Log": [FAILED]}
STARTING = {"Status": "starting", "FailingStreak": 0, "Log": []}

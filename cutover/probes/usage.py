"""What a container uses: from its cgroup's files on this host (0.1 ms), else from the engine's stats (2 s)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutover.core.errors import EngineSilent
from cutover.system import docker
from cutover.system.container import ZERO_TIME

ROOT = Path("/sys/fs/cgroup")
NANO, MICRO = 1e-9, 1e-6


@dataclass(frozen=True, slots=True)
class Usage:
    """One reading; bytes and seconds."""

    at: float
    """Seconds of a clock that only goes forward."""
    cpu_s: float
    """CPU time since the container's start."""
    memory: int
    """What counts against the limit: usage without the page cache that can be dropped."""
    anonymous: int
    """Memory that no file stands behind: what leaks."""
    oom_kills: int | None = None
    """Processes that the kernel has killed for the limit; None where nobody counts them."""


def read(container_id: str, root: Path = ROOT) -> Usage | None:
    """A reading of the container, None while it does not run; raises EngineSilent."""
    found = from_cgroup(container_id, root)
    return found if found is not None else from_engine(container_id)


def from_cgroup(container_id: str, root: Path = ROOT) -> Usage | None:
    """The reading from the cgroup's own files, version 1 or 2; None where they are not to be seen."""
    try:
        if (root / "memory").is_dir():
            return _version_1(_named(root / "memory", container_id), _named(root / "cpuacct", container_id))
        return _version_2(_named(root, container_id))
    except (OSError, KeyError, ValueError):
        return None


def _named(parent: Path, container_id: str) -> Path:
    """The container's folder, as Docker's cgroup drivers call it."""
    for name in (f"docker/{container_id}", f"system.slice/docker-{container_id}.scope"):
        if (parent / name).is_dir():
            return parent / name
    raise FileNotFoundError(f"no cgroup of {container_id[:12]} below {parent}")


def _version_1(memory: Path, cpu: Path) -> Usage:
    stat = _table(memory / "memory.stat")
    used = int((memory / "memory.usage_in_bytes").read_text())
    return Usage(
        at=time.monotonic(),
        cpu_s=int((cpu / "cpuacct.usage").read_text()) * NANO,
        memory=_without_cache(used, stat["total_inactive_file"]),
        anonymous=stat["total_rss"],
        oom_kills=_table(memory / "memory.oom_control").get("oom_kill"),
    )


def _version_2(folder: Path) -> Usage:
    stat = _table(folder / "memory.stat")
    return Usage(
        at=time.monotonic(),
        cpu_s=_table(folder / "cpu.stat")["usage_usec"] * MICRO,
        memory=_without_cache(int((folder / "memory.current").read_text()), stat["inactive_file"]),
        anonymous=stat["anon"],
        oom_kills=_table(folder / "memory.events").get("oom_kill"),
    )


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file of `name number` lines."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}  # noqa: PLR2004 - a pair


def _without_cache(used: int, inactive: int) -> int:
    return used - inactive if inactive < used else used


def from_engine(container_id: str) -> Usage | None:
    """The reading from `docker stats`; None for a container that does not run; raises EngineSilent."""
    from docker.errors import DockerException, NotFound
    from requests.exceptions import RequestException

    try:
        stats = docker.client().api.stats(container_id, stream=False)
    except NotFound:
        return None
    except (DockerException, RequestException) as error:
        raise EngineSilent(f"the Docker engine does not answer: {error}") from error
    return read_stats(stats)


def read_stats(stats: Mapping[str, Any]) -> Usage | None:
    """The reading in one answer of the engine; a stopped container answers with zeros, which are none."""
    memory = stats.get("memory_stats") or {}
    if stats.get("read", ZERO_TIME) == ZERO_TIME or "usage" not in memory:
        return None
    inner = memory.get("stats") or {}
    inactive = inner.get("total_inactive_file", inner.get("inactive_file", 0))
    return Usage(
        at=time.monotonic(),
        cpu_s=stats["cpu_stats"]["cpu_usage"]["total_usage"] * NANO,
        memory=_without_cache(memory["usage"], inactive),
        anonymous=inner.get("total_rss", inner.get("anon", memory["usage"])),
    )

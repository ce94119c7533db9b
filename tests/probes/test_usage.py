"""What a container uses is read from both versions of cgroup files, and from the engine's stats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cutover.probes.usage import Usage, from_cgroup, read_stats

ID = "c" * 64
VERSION_1 = {
    "memory/docker/{}/memory.usage_in_bytes": "67580000\n",
    "memory/docker/{}/memory.stat": "cache 106496\ntotal_rss 34180000\ntotal_inactive_file 31960000\n",
    "memory/docker/{}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "cpuacct/docker/{}/cpuacct.usage": "623818578\n",
}
VERSION_2 = {
    "{}/memory.current": "67580000\n",
    "{}/memory.stat": "anon 34180000\nfile 33000000\ninactive_file 31960000\n",
    "{}/memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\n",
    "{}/cpu.stat": "usage_usec 623818\nuser_usec 1\nsystem_usec 1\n",
}


def written(root: Path, files: dict[str, str], name: str) -> Path:
    """A cgroup file system with *files* in it."""
    for path, text in files.items():
        file = root / path.format(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "name"),
    [(VERSION_1, ID), (VERSION_2, f"docker/{ID}"), (VERSION_2, f"system.slice/docker-{ID}.scope")],
    ids=["v1", "v2", "v2-systemd"],
)
def test_cgroup_files(files: dict[str, str], name: str, tmp_path: Path) -> None:
    """Memory without droppable cache, what no file stands behind, CPU seconds, and kills."""
    found = from_cgroup(ID, written(tmp_path, files, name))
    assert found is not None
    assert (found.memory, found.anonymous, found.oom_kills) == (35_620_000, 34_180_000, 2)
    assert found.cpu_s == pytest.approx(0.623818, abs=1e-5)


@pytest.mark.parametrize(
    "files", [{}, {"memory/docker/other/memory.stat": ""}, {"docker/other/memory.stat": ""}]
)
def test_no_cgroup_to_be_seen(files: dict[str, str], tmp_path: Path) -> None:
    """On another host, or for a stopped container, the engine is asked instead."""
    assert from_cgroup(ID, written(tmp_path, files, ID)) is None


STATS: dict[str, Any] = {
    "read": "2026-01-01T00:00:00Z",
    "cpu_stats": {"cpu_usage": {"total_usage": 5_000_000_000}},
    "memory_stats": {
        "usage": 64_000_000,
        "stats": {"total_inactive_file": 30_000_000, "total_rss": 32_000_000},
    },
}
NEWER = {"usage": 64_000_000, "stats": {"inactive_file": 30_000_000, "anon": 32_000_000}}
CACHELESS = {"usage": 64_000_000, "stats": {"inactive_file": 90_000_000, "anon": 32_000_000}}


@pytest.mark.parametrize(
    ("stats", "memory"),
    [
        (STATS, 34_000_000),
        (STATS | {"memory_stats": NEWER}, 34_000_000),
        (STATS | {"memory_stats": CACHELESS}, 64_000_000),
        (STATS | {"memory_stats": {}}, None),
        (STATS | {"read": "0001-01-01T00:00:00Z"}, None),
        ({"id": "x", "name": "y"}, None),
    ],
)
def test_stats(stats: dict[str, Any], memory: int | None) -> None:
    """The engine answers for a stopped container too, with zeros: that is no reading."""
    found = read_stats(stats)
    assert (found.memory if found else None) == memory
    if isinstance(found, Usage):
        assert (found.cpu_s, found.anonymous, found.oom_kills) == (5.0, 32_000_000, None)

"""`[hosts]`: batches, watches and the hold that must outlast them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.core.config import load_config
from cutover.core.config_schema import Hosts, batch_sizes
from cutover.core.errors import ConfigError

BASE = """
project = "shop"
[colors.blue]
env_file = ".env.blue"
[proxy]
driver = "nginx"
url = "http://127.0.0.1:8080"
drain_timeout = "30s"
[watch]
duration = "5m"
[hosts]
"""
THREE = 'names = ["web-1", "web-2", "web-3"]\npath = "/srv/shop"\n'


@pytest.mark.parametrize(
    ("batches", "hosts", "sizes"),
    [
        (("1", "50%", "100%"), 1, (1,)),
        (("1", "50%", "100%"), 2, (1, 1)),
        (("1", "50%", "100%"), 3, (1, 1, 1)),
        (("1", "50%", "100%"), 4, (1, 1, 2)),
        (("1", "50%", "100%"), 16, (1, 7, 8)),
        (("100%",), 5, (5,)),
        (("2", "4"), 4, (2, 2)),
        (("2", "4"), 3, (2, 1)),
        (("34%", "100%"), 3, (2, 1)),
        (("2", "50%", "100%"), 2, (2,)),  # a part of four hosts, where each batch has some
        (("3", "60%", "100%"), 4, (3, 1)),
    ],
)
def test_batches_reach_all_hosts(batches: tuple[str, ...], hosts: int, sizes: tuple[int, ...]) -> None:
    """Each batch says how many hosts are switched after it; a share is rounded up; no batch is empty."""
    assert batch_sizes(batches, hosts) == sizes
    assert sum(sizes) == hosts


@pytest.mark.parametrize(
    "batches",
    [
        ("1", "50%", "100%"),
        ("2", "50%", "100%"),
        ("3", "50%", "80%", "100%"),
        ("1", "34%", "99%"),
        ("2", "9"),
    ],
)
def test_batches_of_all_hosts_are_some_of_each_part(batches: tuple[str, ...]) -> None:
    """What `[hosts]` may say of all, `--hosts=web-1,web-2` can be released by."""
    for every in range(1, 10):
        try:
            Hosts(names=[f"web-{number}" for number in range(every)], path="/srv", batches=batches)
        except ValueError:
            continue
        for part in range(1, every + 1):
            sizes = batch_sizes(batches, part)
            assert (sum(sizes), min(sizes) > 0) == (part, True)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (THREE + 'batches = ["1", "50%"]', ["hosts: batches", "'50%'", "2 of 3 hosts", 'end with "100%"']),
        (THREE + 'batches = ["2"]', ["hosts: batches", "2 of 3 hosts"]),
        (THREE + 'batches = ["2", "1", "100%"]', ["hosts: batches", "'1'", "fewer than the batch before"]),
        (THREE + 'batches = ["0", "100%"]', ["hosts.batches.0", "'0'"]),
        (THREE + 'batches = ["101%"]', ["hosts.batches.0", "'101%'"]),
        (THREE + "batches = []", ["hosts.batches", "at least 1"]),
        (THREE + 'watch = ["1m", "1m", "1m", "1m"]', ["hosts: watch", "4 durations for 3 batches"]),
        (THREE + 'hold = "10m"', ["hosts.hold", "10 min is too short", "17 min 15 s", "make it longer"]),
        (THREE + 'watch = ["2h"]\nhold = "1h"', ["hosts.hold", "1 h"]),
        (THREE + 'leave = ["balancer", "leave", "{host}"]', ["hosts", "leave needs join"]),
        (THREE + 'status = ["balancer", "is-ready", "{host}"]', ["hosts", "status needs leave and join"]),
        (THREE + 'watch = ["2m", "3h"]\nhold = "12h"', ["hosts.watch", "3 h", "release_timeout (2 h)"]),
        ('names = ["web-1", "web-1"]\npath = "/srv"', ["hosts: names", "web-1 is named twice"]),
        ('names = ["-oProxyCommand=id"]\npath = "/srv"', ["hosts.names.0", "is no ssh name of a host"]),
        ('names = ["web-1"]\npath = "srv"', ["hosts.path", "'srv'"]),
        ('names = []\npath = "/srv"', ["hosts.names", "at least 1"]),
        ('names = ["web-1"]', ["key 'hosts.path' is missing"]),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path: Path, more: str, said: list[str]) -> None:
    """A mistake in [hosts] names its key and the way out."""
    path = tmp_path / "cutover.toml"
    path.write_text(BASE + more)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert "\n" not in str(error.value)
    for words in said:
        assert words in str(error.value)


def test_hosts_need_a_proxy_each(tmp_path: Path) -> None:
    """Without [proxy] there is no traffic to switch on a host."""
    path = tmp_path / "cutover.toml"
    path.write_text('project = "shop"\n[colors.blue]\nenv_file = ".env.blue"\n[hosts]\n' + THREE)
    with pytest.raises(ConfigError, match=r"\[hosts\] needs \[proxy\]"):
        load_config(path)


@pytest.mark.parametrize(
    ("more", "hosts", "given", "watches"),
    [
        ("", 3, None, (300.0, 300.0, 300.0)),
        ('watch = ["15m", "2m"]', 3, None, (900.0, 120.0, 120.0)),
        ('watch = ["15m", "2m"]', 1, None, (900.0,)),
        ('watch = ["15m", "2m"]', 3, 10.0, (10.0, 10.0, 10.0)),
    ],
)
def test_each_batch_has_its_watch(
    tmp_path: Path, more: str, hosts: int, given: float | None, watches: tuple[float, ...]
) -> None:
    """`--watch` counts before `[hosts] watch`, whose last entry counts for all further batches, before `[watch]`."""
    path = tmp_path / "cutover.toml"
    path.write_text(BASE + THREE + more)
    settings = load_config(path)
    assert settings.watches(hosts, given) == watches
    assert settings.hold_problem(sum(watches) + 45 * len(watches) + 1, watches) == ""
    assert "too short" in settings.hold_problem(sum(watches), watches)

"""Which color a name means; no engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.core.config import url_config
from cutover.core.config_schema import Color
from cutover.core.errors import ConfigError
from cutover.proxy.base import Live
from cutover.release.colors import Colors, color_named
from cutover.system.compose import Rendered


@pytest.mark.parametrize(
    ("there", "live", "name", "said"),
    [
        (("blue",), "blue", "idle", "no idle color: replace what runs, with cutover release TAG --in-place"),
        (("blue", "green"), None, "idle", "target 'idle': nobody answers"),
        (("blue", "green"), "blue", "gren", "unknown target 'gren': cutover.toml has blue, green"),
        (("blue",), "blue", "green", "unknown target 'green': cutover.toml has blue"),
    ],
)
def test_says_which_colors_there_are(there: tuple[str, ...], live: str | None, name: str, said: str) -> None:
    """A name that means no color here is told with those that do; one color alone is released in place."""
    colors = {color: Color(env_file=Path(f".env.{color}")) for color in there}
    settings = url_config().model_copy(update={"colors": colors, "source": Path("cutover.toml")})
    with pytest.raises(ConfigError) as refused:
        color_named(Colors(settings, {}, None, Live(live, "nobody answers")), name)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"host_ip": "127.0.0.1"}], "http://127.0.0.1:8001"),
        ([{}], "http://127.0.0.1:8001"),
        ([{"host_ip": "0.0.0.0"}], "http://127.0.0.1:8001"),
        ([{"host_ip": "10.0.0.5"}], "http://10.0.0.5:8001"),
        ([{"host_ip": "::1"}], "http://[::1]:8001"),
        ([{"host_ip": "::"}], "http://[::1]:8001"),
        ([{"host_ip": "10.0.0.5"}, {"host_ip": "127.0.0.1"}], "http://127.0.0.1:8001"),
        ([{"host_ip": "10.0.0.5"}, {"host_ip": "127.0.0.1", "published": "8002"}], "http://10.0.0.5:8001"),
    ],
)
def test_a_color_is_asked_where_it_is_published(rows: list[dict[str, str]], expected: str) -> None:
    """On another address than loopback nobody else answers, or somebody else."""
    ports = [{"target": 80, "published": "8001", "protocol": "tcp", **row} for row in rows]
    model = {"services": {"api": {"image": "shop:1", "ports": ports}}}
    settings = url_config()
    colors = Colors(settings, {"blue": Rendered("blue", "shop_blue", "", model, {})}, None, Live("blue", ""))
    assert colors.url("blue") == expected

"""What is there before anything is asked or changed: both colors as rendered, the proxy, and who is live."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from cutover.core.config import Settings
from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.proxy.base import COLORS, Live, Proxy, driver, other
from cutover.system import docker
from cutover.system.compose import Rendered, render
from cutover.target import ControlProbe, Target

GOES_WITHOUT = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Scene:
    """Both colors as Compose reads them today, and who gets the traffic."""

    settings: Settings
    rendered: dict[str, Rendered]
    proxy: Proxy | None
    live: Live

    def port(self, color: str) -> int:
        """The loopback port of *color*; after a port swap the live color has the users' one."""
        own = self.proxy.own_port(color, self.live.color) if self.proxy else None
        return own or self.rendered[color].port(self.settings.service)

    def url(self, color: str) -> str:
        """Where *color* is asked directly."""
        return f"http://127.0.0.1:{self.port(color)}"

    def again(self) -> Scene:
        """The same scene with the proxy asked anew."""
        return replace(self, live=who_is_live(self.settings, self.proxy))


def look(settings: Settings) -> Scene:
    """Render each color that has an env file, and ask who is live; raises ConfigError."""
    have: list[str] = [color for color, each in settings.colors.items() if each.env_file.is_file()]
    if not have:
        first = next(iter(settings.colors.values()))
        raise ConfigError(f"{first.env_file}: no such file (colors.*.env_file in {settings.source})")
    with ThreadPoolExecutor(2) as pool:
        rendered = dict(zip(have, pool.map(lambda color: render(settings, color), have), strict=True))
    ports = {color: each.port(settings.service) for color, each in rendered.items()}
    proxy = driver(settings, ports)
    return Scene(settings, rendered, proxy, who_is_live(settings, proxy))


def who_is_live(settings: Settings, proxy: Proxy | None) -> Live:
    """The live color: by the proxy's own answer, without a proxy the only color that runs."""
    if proxy is not None:
        return proxy.live()
    try:
        running = [color for color in settings.colors if _runs(settings, color)]
    except EngineUnavailable as error:
        return Live(None, str(error))
    if len(running) == 1:
        return Live(running[0], "the only color that runs")
    return Live(
        None, f"without a proxy live is the only running color, and {' and '.join(running) or 'none'} runs"
    )


def _runs(settings: Settings, color: str) -> bool:
    found = docker.the_container(settings.compose_project(color), settings.service)
    return found is not None and found.running


def color_of(scene: Scene, name: str) -> str:
    """The color that *name* (blue, green, live, idle) means now; raises ConfigError."""
    known = [*scene.settings.colors]
    if name in {"live", "idle"}:
        if scene.live.color is None:
            raise ConfigError(f"target {name!r}: {scene.live.how}")
        name = scene.live.color if name == "live" else other(scene.live.color)
    if name not in known:
        raise ConfigError(
            f"unknown target {name!r}: {scene.settings.source} has {', '.join(known)}; also live, idle or a URL"
        )
    if name not in scene.rendered:
        env_file = scene.settings.colors[name].env_file
        raise ConfigError(f"{env_file}: no such file (colors.{name}.env_file in {scene.settings.source})")
    return name


def is_url(name: str) -> bool:
    """Whether a target's name is a plain URL."""
    return name.startswith(GOES_WITHOUT)


def target_named(scene: Scene | None, name: str) -> Target:
    """The target of that name; *scene* may be None for a plain URL only."""
    if is_url(name):
        return Target(name=name, kind="url", base_url=name.rstrip("/"))
    if scene is None:
        raise ConfigError(f"target {name!r} needs a cutover.toml")
    color = color_of(scene, name)
    through = name == "live" and scene.settings.proxy is not None
    settings = scene.settings
    return Target(
        name=name,
        kind="live" if name == "live" else "color",
        base_url=settings.proxy.url.rstrip("/") if through and settings.proxy else scene.url(color),
        color=color,
        project=settings.compose_project(color),
        service=settings.service,
        port=scene.port(color),
        tag=running_tag(settings, color),
        through_proxy=through,
    )


def running_tag(settings: Settings, color: str) -> str | None:
    """The tag that the running container of *color* was started from, None if nothing is there or answers."""
    try:
        found = docker.the_container(settings.compose_project(color), settings.service)
    except EngineUnavailable:
        return None
    return tag_of(found.image_name) if found else None


def tag_of(reference: str) -> str | None:
    """The tag of `repo:tag`, None for one named by digest or ID."""
    name = reference.split("@", 1)[0].rsplit("/", 1)[-1]
    return name.rsplit(":", 1)[1] if ":" in name and not name.startswith("sha256:") else None


def control_of(scene: Scene | None, target: Target) -> ControlProbe:
    """How to tell a silent service from a cut way: the proxy for `live`, the engine for a color, nothing for a URL."""
    if scene is not None and target.through_proxy and scene.proxy is not None:
        return scene.proxy.control()
    if target.project is not None:
        project, service = target.project, target.service
        return ControlProbe(
            lambda: _engine_knows(project, service), "the engine says whether its container runs"
        )
    return ControlProbe(lambda: False, "a plain URL has no control")


def _engine_knows(project: str, service: str) -> bool:
    """Whether the engine answers at all: running or dead, silence is then the service's own."""
    try:
        docker.the_container(project, service)
    except EngineUnavailable:
        return False
    return True


def both(color: str | None) -> tuple[str, ...]:
    """Both colors, the given one first."""
    return (color, other(color)) if color else COLORS


def release_path(settings: Settings, color: str, name: str) -> Path:
    """The rendered release file of that name."""
    return settings.state / "releases" / color / name

"""What is there before anything is asked or changed: both colours as rendered, the proxy, and who is live."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from cutover.core.config import Settings
from cutover.core.errors import EngineSilent, UsageProblem
from cutover.proxy.base import COLOURS, Live, Proxy, driver, other
from cutover.system import docker
from cutover.system.compose import Rendered, render
from cutover.target import Control, Target

GOES_WITHOUT = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Scene:
    """Both colours as Compose reads them today, and who gets the traffic."""

    settings: Settings
    rendered: dict[str, Rendered]
    proxy: Proxy | None
    live: Live

    def port(self, colour: str) -> int:
        """The loopback port of *colour*; after a port swap the live colour has the users' one."""
        own = self.proxy.own_port(colour, self.live.colour) if self.proxy else None
        return own or self.rendered[colour].port(self.settings.service)

    def url(self, colour: str) -> str:
        """Where *colour* is asked directly."""
        return f"http://127.0.0.1:{self.port(colour)}"

    def again(self) -> Scene:
        """The same scene with the proxy asked anew."""
        return replace(self, live=who_is_live(self.settings, self.proxy))


def look(settings: Settings) -> Scene:
    """Render each colour that has an env file, and ask who is live; raises UsageProblem."""
    have: list[str] = [colour for colour, each in settings.colours.items() if each.env_file.is_file()]
    if not have:
        first = next(iter(settings.colours.values()))
        raise UsageProblem(f"{first.env_file}: no such file (colours.*.env_file in {settings.source})")
    with ThreadPoolExecutor(2) as pool:
        rendered = dict(zip(have, pool.map(lambda colour: render(settings, colour), have), strict=True))
    ports = {colour: each.port(settings.service) for colour, each in rendered.items()}
    proxy = driver(settings, ports)
    return Scene(settings, rendered, proxy, who_is_live(settings, proxy))


def who_is_live(settings: Settings, proxy: Proxy | None) -> Live:
    """The live colour: by the proxy's own answer, without a proxy the only colour that runs."""
    if proxy is not None:
        return proxy.live()
    try:
        running = [colour for colour in settings.colours if _runs(settings, colour)]
    except EngineSilent as error:
        return Live(None, str(error))
    if len(running) == 1:
        return Live(running[0], "the only colour that runs")
    return Live(
        None, f"without a proxy live is the only running colour, and {' and '.join(running) or 'none'} runs"
    )


def _runs(settings: Settings, colour: str) -> bool:
    found = docker.the_container(settings.compose_project(colour), settings.service)
    return found is not None and found.running


def colour_of(scene: Scene, name: str) -> str:
    """The colour that *name* (blue, green, live, idle) means now; raises UsageProblem."""
    known = [*scene.settings.colours]
    if name in {"live", "idle"}:
        if scene.live.colour is None:
            raise UsageProblem(f"target {name!r}: {scene.live.how}")
        name = scene.live.colour if name == "live" else other(scene.live.colour)
    if name not in known:
        raise UsageProblem(
            f"unknown target {name!r}: {scene.settings.source} has {', '.join(known)}; also live, idle or a URL"
        )
    if name not in scene.rendered:
        env_file = scene.settings.colours[name].env_file
        raise UsageProblem(f"{env_file}: no such file (colours.{name}.env_file in {scene.settings.source})")
    return name


def is_url(name: str) -> bool:
    """Whether a target's name is a plain URL."""
    return name.startswith(GOES_WITHOUT)


def target_named(scene: Scene | None, name: str) -> Target:
    """The target of that name; *scene* may be None for a plain URL only."""
    if is_url(name):
        return Target(name=name, kind="url", base_url=name.rstrip("/"))
    if scene is None:
        raise UsageProblem(f"target {name!r} needs a cutover.toml")
    colour = colour_of(scene, name)
    through = name == "live" and scene.settings.proxy is not None
    settings = scene.settings
    return Target(
        name=name,
        kind="live" if name == "live" else "colour",
        base_url=settings.proxy.url.rstrip("/") if through and settings.proxy else scene.url(colour),
        colour=colour,
        project=settings.compose_project(colour),
        service=settings.service,
        port=scene.port(colour),
        tag=running_tag(settings, colour),
        through_proxy=through,
    )


def running_tag(settings: Settings, colour: str) -> str | None:
    """The tag that the running container of *colour* was started from, None if nothing is there or answers."""
    try:
        found = docker.the_container(settings.compose_project(colour), settings.service)
    except EngineSilent:
        return None
    return tag_of(found.image_name) if found else None


def tag_of(reference: str) -> str | None:
    """The tag of `repo:tag`, None for one named by digest or ID."""
    name = reference.split("@", 1)[0].rsplit("/", 1)[-1]
    return name.rsplit(":", 1)[1] if ":" in name and not name.startswith("sha256:") else None


def control_of(scene: Scene | None, target: Target) -> Control:
    """How to tell a silent service from a cut way: the proxy for `live`, the engine for a colour, nothing for a URL."""
    if scene is not None and target.through_proxy and scene.proxy is not None:
        return scene.proxy.control()
    if target.project is not None:
        project, service = target.project, target.service
        return Control(lambda: _engine_knows(project, service), "the engine says whether its container runs")
    return Control(lambda: False, "a plain URL has no control")


def _engine_knows(project: str, service: str) -> bool:
    """Whether the engine answers at all: running or dead, silence is then the service's own."""
    try:
        docker.the_container(project, service)
    except EngineSilent:
        return False
    return True


def both(colour: str | None) -> tuple[str, ...]:
    """Both colours, the given one first."""
    return (colour, other(colour)) if colour else COLOURS


def release_path(settings: Settings, colour: str, name: str) -> Path:
    """The rendered release file of that name."""
    return settings.state / "releases" / colour / name

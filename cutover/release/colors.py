"""What blue and green are now: both rendered, the live color, and the target that a name means."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from cutover.core.config import Settings
from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.core.target import ControlProbe, ReleaseRequest, Target, is_url
from cutover.gate.container_checks import describe_trouble
from cutover.proxy.base import Live, Proxy, driver, other
from cutover.release.state import State
from cutover.system import docker
from cutover.system.compose import Rendered, render_colors
from cutover.system.container import Container


@dataclass(frozen=True, slots=True)
class Colors:
    """Both colors as Compose renders them now, and the live one."""

    settings: Settings
    rendered: dict[str, Rendered]
    proxy: Proxy | None
    live: Live

    def port(self, color: str) -> int:
        """The host port of *color*; with a port swap the live color has the users' port."""
        own = self.proxy.own_port(color, self.live.color) if self.proxy else None
        return own or self.rendered[color].port(self.settings.service)

    def url(self, color: str) -> str:
        """The base URL of *color* without the proxy, on the address that it is published on."""
        return f"http://{self.rendered[color].address(self.settings.service)}:{self.port(color)}"

    def refreshed(self) -> Colors:
        """The same colors with the live one determined anew."""
        return replace(self, live=find_live(self.settings, self.proxy))

    def beside(self, color: str | None) -> Target | None:
        """The other color than *color* if it runs."""
        name = other(color) if color else ""
        found = known_container(self.settings, name) if name in self.rendered else None
        return target_named(self, name) if found is not None and found.running else None


def inspect_colors(settings: Settings, rendered: dict[str, Rendered] | None = None) -> Colors:
    """Both colors, rendered now unless *rendered* is given, and the live one; raises ConfigError."""
    rendered = render_colors(settings) if rendered is None else rendered
    ports = {color: each.port(settings.service) for color, each in rendered.items()}
    proxy = driver(settings, ports)
    return Colors(settings, rendered, proxy, find_live(settings, proxy))


def ask_live(settings: Settings) -> tuple[Proxy | None, Live]:
    """The proxy and the live color, without the compose and env files of today, which may be broken by now."""
    proxy = driver(settings, {})
    return proxy, find_live(settings, proxy)


def find_live(settings: Settings, proxy: Proxy | None) -> Live:
    """The live color by a request through the proxy; without a proxy the only color that runs."""
    if proxy is not None:
        return proxy.live()
    try:
        found = {color: main_container(settings, color) for color in settings.colors}
    except EngineUnavailable as error:
        return Live(None, str(error))
    running = [color for color, each in found.items() if each is not None and each.running]
    if len(running) == 1:
        return Live(running[0], "the only color that runs")
    runs = " and ".join(running) or "none"
    return Live(None, f"without a proxy live is the only running color, and {runs} runs")


def in_use(there: Mapping[str, Container | None]) -> dict[str, Container]:
    """The services of *there* that run, pause or restart."""
    return {service: each for service, each in there.items() if each is not None and each.in_use}


def main_container(settings: Settings, color: str) -> Container | None:
    """The container of the main service on *color*, None if there is none; raises EngineUnavailable."""
    return docker.the_container(settings.compose_project(color), settings.service)


def replicas_of(settings: Settings, color: str, services: Sequence[str]) -> dict[str, int]:
    """Service -> how many of its containers are in use on *color*; raises EngineUnavailable.

    Empty on a Swarm: its tasks run on other nodes too.
    """
    if settings.platform.kind == "swarm":
        return {}
    used = [each.service for each in docker.containers(settings.compose_project(color)) if each.in_use]
    return {each: used.count(each) for each in services}


def color_named(colors: Colors, name: str) -> str:
    """The color that *name* (blue, green, live, idle) means now; raises ConfigError."""
    known = [*colors.settings.colors]
    if name in {"live", "idle"}:
        if colors.live.color is None:
            raise ConfigError(f"target {name!r}: {colors.live.how}")
        if name == "idle" and len(known) == 1:
            only = f"{colors.settings.source} has {known[0]} alone, so there is no idle color"
            way_out = "replace what runs, with cutover release TAG --in-place or --target=live"
            raise ConfigError(f"{only}: {way_out}")
        name = colors.live.color if name == "live" else other(colors.live.color)
    if name not in known:
        allowed = f"{colors.settings.source} has {', '.join(known)}; also live, idle or a URL"
        raise ConfigError(f"unknown target {name!r}: {allowed}")
    if name not in colors.rendered:
        env_file = colors.settings.colors[name].env_file
        raise ConfigError(f"{env_file}: no such file (colors.{name}.env_file in {colors.settings.source})")
    return name


def target_named(colors: Colors | None, name: str) -> Target:
    """The target called *name*; *colors* may be None for a plain URL only. Raises ConfigError."""
    if is_url(name):
        return Target(name=name, kind="url", base_url=name.rstrip("/"))
    if colors is None:
        raise ConfigError(f"target {name!r} needs a cutover.toml")
    color = color_named(colors, name)
    through = name == "live" and colors.settings.proxy is not None
    settings = colors.settings
    found = known_container(settings, color)
    return Target(
        name=name,
        kind="live" if name == "live" else "color",
        base_url=settings.proxy.url.rstrip("/") if through and settings.proxy else colors.url(color),
        color=color,
        project=settings.compose_project(color),
        service=settings.service,
        port=colors.port(color),
        tag=tag_of(found.image_name) if found else None,
        container=found.id if found else "",
        through_proxy=through,
    )


def known_container(settings: Settings, color: str | None) -> Container | None:
    """The main container on *color*; None if there is none or the engine does not answer."""
    with contextlib.suppress(EngineUnavailable):
        return main_container(settings, color) if color else None
    return None


def running_label(settings: Settings, color: str) -> str:
    """`label_of` the main container on *color*; empty if there is none or the engine does not answer."""
    found = known_container(settings, color)
    return label_of(found) if found else ""


def label_of(found: Container) -> str:
    """The tag of a container's image; of one without a tag, the first digits of the image ID."""
    return tag_of(found.image_name) or found.image[7:19]


def tag_of(reference: str) -> str | None:
    """The tag of `repo:tag`, None for one named by digest or ID."""
    name = reference.split("@", 1)[0].rsplit("/", 1)[-1]
    return name.rsplit(":", 1)[1] if ":" in name and not name.startswith("sha256:") else None


def can_tag(reference: str) -> bool:
    """Whether `docker tag` can give an image the name *reference*, which names none by digest or ID."""
    return "@" not in reference and not reference.startswith("sha256:")


def control_for(colors: Colors | None, target: Target) -> ControlProbe:
    """Whether the path to *target* is up: asks the proxy for `live`, the engine for a color, nothing for a URL."""
    if target.project is None:
        return ControlProbe(lambda: False, "a plain URL has no control probe")
    cause = partial(_trouble, target.project, target.service)
    if colors is not None and target.through_proxy and colors.proxy is not None:
        return replace(colors.proxy.control(), cause=cause)
    answers = partial(_engine_answers, target.project, target.service)
    return ControlProbe(answers, "the engine says whether its container runs", cause)


def _trouble(project: str, service: str) -> str:
    try:
        return describe_trouble(docker.the_container(project, service))
    except EngineUnavailable:
        return ""


def _engine_answers(project: str, service: str) -> bool:
    # Whether the container runs does not matter: if the engine answers, no response is the service's own failure.
    try:
        docker.the_container(project, service)
    except EngineUnavailable:
        return False
    return True


@dataclass(frozen=True, slots=True)
class BeforeRelease:
    """What users had before a release; whoever reverts it verifies that they have it again."""

    live: str | None
    """The live color, None if it was unknown."""
    tag: str | None
    """The tag that it ran, None if nothing ran or its image has no tag."""
    image: str = ""
    """Its image ID, empty if it is unknown."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Question -> reason, for what it failed already: it may fail that again after a revert."""

    @property
    def label(self) -> str:
        """The tag that it ran; of an image without a tag, the first digits of its ID; empty if nothing ran."""
        return self.tag or self.image[7:19]


@dataclass(frozen=True, slots=True)
class Situation:
    """What a session found before it changed anything."""

    settings: Settings
    request: ReleaseRequest
    colors: Colors
    target: Target
    """The target of the deploy or the switch; of a gate, its first target."""
    before: BeforeRelease

    @property
    def state(self) -> State:
        """The state directory of the project."""
        return State(self.settings.state)

    @property
    def color(self) -> str:
        """The color of the target; raises ConfigError for a plain URL."""
        if self.target.color is None:
            why = "--deploy and --switch need blue, green, live or idle"
            raise ConfigError(f"{self.target.name} is a plain URL and no color: {why}")
        return self.target.color

    @property
    def tag(self) -> str:
        """The tag that the session releases, empty if it is unknown."""
        return self.request.deploy or self.target.tag or ""


def situation_of(colors: Colors, request: ReleaseRequest) -> Situation:
    """The situation of *request* with *colors*; raises ConfigError for a target that does not exist."""
    target, *_ = [target_named(colors, name) for name in request.targets]
    live = colors.live.color
    found, before = known_container(colors.settings, live or target.color), BeforeRelease(live, None)
    if found is not None and found.in_use:
        before = BeforeRelease(live, tag_of(found.image_name), found.image)
    return Situation(colors.settings, request, colors, target, before)

"""What a session is asked for, and the running copy of the service that its checks send requests to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from cutover.core.text import quoted

TargetKind = Literal["color", "live", "url"]
URL_SCHEMES = ("http://", "https://")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""An image tag, as engines and registries accept it."""

HOST = re.compile(r"[A-Za-z0-9_@:][A-Za-z0-9._@:-]*")
"""A name of a host for ssh, which cannot be taken for an option, a folder or shell syntax."""


def host_fault(name: str) -> str:
    """Return why *name* cannot be the ssh name of a host, in one line; empty if it can."""
    if HOST.fullmatch(name):
        return ""
    allowed = "a-z, A-Z, digits, . _ @ : and -, and no . or - at the beginning"
    return f"{quoted(name)} is no ssh name of a host: it has {allowed}; write it like web-1 or deploy@web-1"


def empty_fault(option: str) -> str:
    """Why *option* is refused whose value is empty: it is not the same as an option that is left out."""
    return f"{option} needs a value: it is empty, as of a variable that is not set; set it, or leave {option} out"


def tag_fault(tag: str) -> str:
    """Return why *tag* cannot be the tag of an image, in one line; empty if it can."""
    if TAG.fullmatch(tag):
        return ""
    allowed = "1 to 128 letters of a-z and A-Z, digits, _ . and -, and no . or - at the beginning"
    return f"{quoted(tag)} is no image tag: it has {allowed}"


def is_url(name: str) -> bool:
    """Whether a target's name is a plain URL."""
    return name.startswith(URL_SCHEMES)


def url_problem(url: str, schemes: Sequence[str] = ("http", "https")) -> str:
    """Why *url* cannot be asked: not one of *schemes*, no host, a port out of range; empty if nothing is wrong."""
    example = f"write it like {schemes[0]}://127.0.0.1:8080"
    if not url.isascii() or not url.isprintable() or " " in url:
        return f"{url!r} holds a space or a character that no URL has; {example}"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        return f"{url!r} is no URL: {error}; {example}"
    if parts.scheme not in schemes:
        return f"{url!r} does not begin with {' or '.join(f'{each}://' for each in schemes)}; {example}"
    if not host or port == 0 or (port is None and parts.scheme == "tcp"):  # any other scheme has a usual port
        return f"{url!r} names no {'host' if not host else 'port that can be asked'}; {example}"
    try:
        host.encode("idna")
    except UnicodeError:
        return f"{url!r} names no host: between its dots are 1 to 63 characters each; {example}"
    return ""


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """The command line of a session, parsed once."""

    targets: tuple[str, ...]
    paths: tuple[str, ...] = ()
    """The checklists as named on the command line, to run the gate again."""
    deploy: str | None = None
    """The image tag to deploy."""
    expect: str | None = None
    """The tag that the targets should serve; None: what the engine says that they run."""
    switch: bool = False
    watch_s: float | None = None
    hold_s: float | None = None
    """How long a release that passed everything stays open for a confirmation; None: it is committed at once."""
    rollback: bool = True
    """Whether changes are reverted unless every check passes."""
    allow_no_rollback: bool = False
    migrate: bool = True
    allow_breaking_migration: bool = False
    hosts: str = ""
    """The hosts of `[hosts]` to release on, `all` or names; empty: this one."""
    plan: bool = False
    """Print what would be done and change nothing: no file, no image, no open release."""
    asked_at: float | None = None
    """When the session was started (monotonic); how long it waits for the lock counts from here."""

    @property
    def changes_something(self) -> bool:
        """Whether the session may change anything by itself."""
        return self.deploy is not None or self.switch

    @property
    def only_urls(self) -> bool:
        """Whether it is a gate of plain URLs: nothing is rendered, locked or reverted for it."""
        return not self.changes_something and all(map(is_url, self.targets))

    @property
    def summary(self) -> str:
        """`sha-4f1c2aa to green`: what the lock and the journal say that is being done."""
        return f"{self.deploy or 'a switch'} to {self.targets[0]}"


@dataclass(frozen=True, slots=True)
class Target:
    """The running copy of the service that is checked: a color, what the proxy serves, or a plain URL."""

    name: str
    """As in test ids and reports: `green`, `live`, or the URL."""
    kind: TargetKind
    base_url: str
    color: str | None = None
    """None for a plain URL."""
    project: str | None = None
    """The Compose project of the color; None for a plain URL."""
    service: str = "api"
    port: int = 0
    tag: str | None = None
    """The tag that it should run, None if unknown."""
    container: str = ""
    """The id of its main container when the session began; empty if there was none that could be asked."""
    through_proxy: bool = False

    def __str__(self) -> str:
        """Its name, for test ids."""
        return self.name


@dataclass(frozen=True, slots=True)
class ControlProbe:
    """Tells whether the path to the service is up, so that no response can be attributed to the service itself.

    `answers` asks the Docker engine or a static location of the proxy; True: the path is up. `how` names what was
    asked.
    """

    answers: Callable[[], bool]
    how: str = ""
    cause: Callable[[], str] = str
    """What the engine knows of the service's container that explains a failure; empty if there is nothing."""

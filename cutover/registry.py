"""Images that come from a registry: signed in for a moment, pulled or pushed, and known by their digest."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutover import host
from cutover.errors import UsageProblem
from cutover.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LOGIN_S = 60.0
TRANSFER_S = 1800.0
DEFAULT_HOST = "docker.io"
GHCR = "ghcr.io"
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own below it; a killed session leaves nothing on a disk


@dataclass(frozen=True, slots=True)
class ImageFact:
    """One image as it lies here: what it is called, and what it is."""

    reference: str
    id: str
    digest: str
    """`repository@sha256:…` as its registry knows it; empty for an image that never saw one."""
    architecture: str

    def as_json(self) -> dict[str, str]:
        """A dictionary of JSON values."""
        return asdict(self)


def registry_of(reference: str) -> str:
    """The host that *reference* is pulled from: its first part, if that looks like a host."""
    first, slash, _ = reference.partition("/")
    return first if slash and (set(".:") & set(first) or first == "localhost") else DEFAULT_HOST


def repository_of(reference: str) -> str:
    """*reference* without tag and digest."""
    name = reference.split("@", 1)[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.split(":", 1)[0]


def ensure_image(reference: str, environment: Mapping[str, str] | None = None) -> ImageFact:
    """The image *reference*, pulled when it is not here; raises UsageProblem when it cannot be had.

    GHCR_USERNAME and GHCR_TOKEN are used for ghcr.io (or GHCR_HOST) alone; any other registry is asked with
    what `docker login` has stored.
    """
    found = inspected(reference)
    if found is None:
        with signed_in(registry_of(reference), os.environ if environment is None else environment) as login:
            _transfer(("docker", "pull", "--quiet", reference), reference, login)
        found = inspected(reference)
    if found is None:
        raise UsageProblem(f"{reference} was pulled and is not here")
    return fits(found, engine_architecture())


def push(reference: str, environment: Mapping[str, str] | None = None) -> ImageFact:
    """Push the local image *reference*, and ask the registry for it again by its digest."""
    found = inspected(reference)
    if found is None:
        raise UsageProblem(f"{reference} is not on this host, so it cannot be pushed")
    with signed_in(registry_of(reference), os.environ if environment is None else environment) as login:
        _transfer(("docker", "push", "--quiet", reference), reference, login)
        pushed = inspected(reference)
        if pushed is None or not pushed.digest:
            raise UsageProblem(f"{reference} was pushed, and the engine names no digest for it")
        _transfer(("docker", "pull", "--quiet", pushed.digest), pushed.digest, login)
    return pushed


def fits(image: ImageFact, architecture: str) -> ImageFact:
    """*image*, if it is for this host: the engine pulls and starts one for another machine without a word."""
    if image.architecture and architecture and image.architecture != architecture:
        raise UsageProblem(f"{image.reference} is for {image.architecture}, this host is {architecture}")
    return image


def inspected(reference: str) -> ImageFact | None:
    """What the engine has under *reference*, None if nothing."""
    from docker.errors import DockerException, ImageNotFound
    from requests.exceptions import RequestException

    from cutover import engine

    api: Any = engine.client().api  # its stubs are untyped here
    try:
        return read(reference, api.inspect_image(reference))
    except ImageNotFound:
        return None
    except (DockerException, RequestException) as error:
        raise engine.EngineSilent(f"the Docker engine does not answer: {error}") from error


def read(reference: str, attributes: Mapping[str, Any]) -> ImageFact:
    """The facts of one `docker image inspect` answer; only a digest of the same repository is its own."""
    mine = f"{repository_of(reference)}@"
    digests: Sequence[str] = attributes.get("RepoDigests") or ()
    digest = next((each for each in digests if each.startswith(mine)), "")
    return ImageFact(reference, str(attributes["Id"]), digest, str(attributes.get("Architecture", "")))


def engine_architecture() -> str:
    """The engine's own architecture, in the words of images."""
    from cutover import engine

    return str(engine.client().api.version().get("Arch", ""))


@contextmanager
def signed_in(registry: str, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """What `docker` must be run with to be signed in at *registry*; the stored login ends with the block.

    Without credentials meant for *registry* it is nothing, and docker's own configuration is used.
    """
    name, token = environment.get("GHCR_USERNAME", ""), environment.get("GHCR_TOKEN", "")
    if not (name and token) or registry != environment.get("GHCR_HOST", GHCR):
        yield {}
        return
    MASK.learn([token])
    own = Path(environment.get("DOCKER_CONFIG") or Path.home() / ".docker")
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="cutover-", dir=place) as folder:
        borrow(own, Path(folder))
        login = {"DOCKER_CONFIG": folder}
        words = ("docker", "login", registry, "--username", name, "--password-stdin")
        done = host.run(words, deadline_s=LOGIN_S, stdin=token.encode(), environment=login)
        if not done.ok:
            raise UsageProblem(refused(done.last_line, registry))
        yield login


def borrow(own: Path, folder: Path) -> None:
    """Make *folder* a docker configuration with the user's plugins and context, and without their logins."""
    for name in ("cli-plugins", "contexts"):
        if (own / name).is_dir():
            (folder / name).symlink_to(own / name)
    try:
        stored = json.loads((own / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    kept = {key: stored[key] for key in ("currentContext", "cliPluginsExtraDirs") if key in stored}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")


def _transfer(words: Sequence[str], reference: str, login: Mapping[str, str]) -> None:
    done = host.run(words, deadline_s=TRANSFER_S, environment=login)
    if not done.ok:
        raise UsageProblem(explained(done.last_line, reference, signed=bool(login)))


def refused(text: str, registry: str) -> str:
    """What a failed login means, in one line."""
    low = text.lower()
    if any(word in low for word in ("unauthorized", "denied", "incorrect username")):
        return f"{registry} refused GHCR_USERNAME and GHCR_TOKEN: {REFUSED}"
    return explained(text, f"{registry}/", signed=True)


def explained(text: str, reference: str, *, signed: bool) -> str:
    """What a failed pull or push means, in one line: what, where, what to do."""
    low, registry = text.lower(), registry_of(reference)
    login = "its login may not read or write this repository" if signed else SIGN_IN.get(registry, OTHER)
    for marks, said in REASONS:
        if any(mark in low for mark in marks):
            return said.format(reference=reference, registry=registry, login=login)
    return f"{reference}: {MASK(text)}"


REFUSED = "the token may have expired or lack read:packages"
OTHER = "not signed in: docker login there first"
SIGN_IN = {GHCR: "not signed in: set GHCR_USERNAME and GHCR_TOKEN"}
REASONS = (
    (
        ("no basic auth", "unauthorized", "authentication required", "denied"),
        "{registry} denies {reference}: {login}",
    ),
    (
        ("manifest unknown", "not found", "name unknown"),
        "{registry} has no {reference}: look at repository and tag",
    ),
    (
        ("no such host",),
        "{reference} is not here, and there is no host {registry}: look at IMAGE_REPO and the tag",
    ),
    (
        ("x509", "certificate"),
        "{registry} shows a certificate that the engine does not trust: give it the CA in certs.d",
    ),
    (("server gave http response",), "{registry} speaks plain HTTP, which the engine refuses"),
    (("no space left",), "{reference}: no space left on this host"),
    (("toomanyrequests", "rate limit"), "{registry} answers no more requests for now: sign in, or wait"),
    (
        ("connection refused", "timeout", "no end after", "unreachable", "reset by peer"),
        "{reference} is not here, and {registry} does not answer",
    ),
)

"""Images from a registry: pulled with the credentials of the caller, failures explained in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import Any

from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.core.masking import MASK
from cutover.core.target import tag_fault
from cutover.core.text import quoted
from cutover.system import docker

LOGIN_DEADLINE_S = 60
PULL_DEADLINE_S = 1800.0
DEFAULT_REGISTRY = "docker.io"
GHCR = "ghcr.io"
COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*")
MAX_REPOSITORY = 255
SHOWN_TAGS = 5


@dataclass(frozen=True, slots=True)
class ImageFact:
    """One image on this host."""

    reference: str
    id: str
    digest: str
    """`repository@sha256:…` as its registry has it; empty for an image that never was in a registry."""
    architecture: str


def registry_of(reference: str) -> str:
    """Return the registry host of *reference*, as docker reads it."""
    first, slash, _ = reference.partition("/")
    return first if slash and (set(".:") & set(first) or first == "localhost") else DEFAULT_REGISTRY


def repository_of(reference: str) -> str:
    """Return *reference* without tag and digest."""
    head, slash, last = reference.split("@", 1)[0].rpartition("/")
    return head + slash + last.split(":", 1)[0]


def short_name(repository: str) -> str:
    """Return *repository* as docker shows it: of Docker Hub without `docker.io/` and `library/`."""
    return repository.removeprefix(f"{DEFAULT_REGISTRY}/").removeprefix("library/")


def reference_fault(reference: str) -> str:
    """Return why no engine accepts the image name *reference*, in one line; empty if it does."""
    repository = repository_of(reference)
    tag = reference.split("@", 1)[0][len(repository) + 1 :]
    if tag and (fault := tag_fault(tag)):
        return fault
    parts = repository.removeprefix(f"{registry_of(reference)}/").split("/")
    if len(repository) <= MAX_REPOSITORY and all(map(COMPONENT.fullmatch, parts)):
        return ""
    allowed = "lower-case letters and digits, with . _ - or / between them"
    what = f"it has at most {MAX_REPOSITORY} characters, {allowed}"
    return f"{quoted(repository)} is no image repository: {what}"


def ensure_image(reference: str, environment: Mapping[str, str] = os.environ) -> ImageFact:
    """Return the image *reference*, pulled if it is not on this host; raises ConfigError if that fails.

    GHCR_USERNAME and GHCR_TOKEN are sent only to ghcr.io (or GHCR_HOST); for any other registry the credentials
    that `docker login` has stored are used.
    """
    found = local_image(reference)
    if found is None:
        try:
            _pull(reference, credentials_for(registry_of(reference), environment))
        except ConfigError as error:
            raise ConfigError(f"{error}{tags_here(reference)}") from error
        found = local_image(reference)
    if found is None:
        raise ConfigError(f"{reference} was pulled, but is not on this host")
    with docker.engine_errors():
        return require_architecture(found, str(docker.client().api.version().get("Arch", "")))


def require_architecture(image: ImageFact, architecture: str) -> ImageFact:
    """Return *image* if it is built for *architecture*, else raise ConfigError: the engine would start it anyway."""
    if image.architecture and architecture and image.architecture != architecture:
        raise ConfigError(f"{image.reference} is for {image.architecture}, this host is {architecture}")
    return image


def local_image(reference: str) -> ImageFact | None:
    """Return the image *reference*, None if it is not on this host; raises EngineUnavailable."""
    attributes = docker.inspect_image(reference)
    return read_image_fact(reference, attributes) if attributes else None


def tags_here(reference: str) -> str:
    """Return `; on this host are its tags …` for the repository of *reference*; empty if that is not known."""
    try:
        tags = [name.rsplit(":", 1)[1] for name in docker.image_names(short_name(repository_of(reference)))]
    except EngineUnavailable:
        return ""
    more = f" and {len(tags) - SHOWN_TAGS} more" if len(tags) > SHOWN_TAGS else ""
    there = f"on this host are its tags {', '.join(tags[:SHOWN_TAGS])}{more}"
    return f"; {there}" if tags else "; no tag of it is on this host"


def read_image_fact(reference: str, attributes: Mapping[str, Any]) -> ImageFact:
    """Return the facts of one `docker image inspect`; the digest is that of the repository of *reference*."""
    digests: Sequence[str] = attributes.get("RepoDigests") or ()
    ours = short_name(repository_of(reference))
    digest = next((each for each in digests if short_name(each.partition("@")[0]) == ours), "")
    return ImageFact(reference, str(attributes["Id"]), digest, str(attributes.get("Architecture", "")))


def credentials_for(registry: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the auth_config for *registry* from GHCR_USERNAME and GHCR_TOKEN; empty if they are not for it."""
    name, token = environment.get("GHCR_USERNAME", ""), environment.get("GHCR_TOKEN", "")
    if not (name and token) or registry != environment.get("GHCR_HOST", GHCR):
        return {}
    MASK.learn([token])
    return {"username": name, "password": token}


def _pull(reference: str, credentials: Mapping[str, str]) -> None:
    registry, result = registry_of(reference), Queue[str]()
    # An own client: the credentials of a login stay in the memory of the client, and must end with this pull.
    with closing(docker.new_client(LOGIN_DEADLINE_S)) as own:
        if credentials:
            refusal = _error_of(lambda: [own.api.login(**credentials, registry=registry, reauth=True)])
            if any(mark in refusal.lower() for mark in ("unauthorized", "denied", "incorrect username")):
                why = "the token may have expired or lack read:packages"
                raise ConfigError(f"{registry} refused GHCR_USERNAME and GHCR_TOKEN: {why}")
            if refusal:
                raise ConfigError(explain_failure(refusal, f"{registry}/", signed=True))
        auth = dict(credentials) or None  # None: what `docker login` has stored

        def pull() -> None:
            result.put(_error_of(lambda: own.api.pull(reference, auth_config=auth, stream=True, decode=True)))

        Thread(target=pull, daemon=True).start()  # the SDK pulls without any timeout
        try:
            failed = result.get(timeout=PULL_DEADLINE_S)
        except Empty:
            failed = f"no end after {PULL_DEADLINE_S:g} s"
    if failed:
        raise ConfigError(explain_failure(failed, reference, signed=bool(credentials)))


def _error_of(request: Callable[[], Iterable[Mapping[str, Any]]]) -> str:
    from docker.errors import APIError

    try:
        return next((str(row["error"]) for row in request() if "error" in row), "")
    except APIError as error:
        return str(error.explanation or error)
    except Exception as error:  # noqa: BLE001  an error that ends the thread would be seen only at the deadline
        return str(error) or type(error).__name__


def explain_failure(text: str, reference: str, *, signed: bool) -> str:
    """Return one line for a failed pull: what failed, where, and what to do. *signed*: GHCR_TOKEN was used."""
    low, registry = text.lower(), registry_of(reference)
    login = "its login may not read or write this repository" if signed else SIGN_IN.get(registry, OTHER)
    for marks, reason in REASONS:
        if any(mark in low for mark in marks):
            return reason.format(reference=reference, registry=registry, login=login)
    return f"{reference}: {MASK(text)}"


OTHER = "not signed in: docker login there first"
SIGN_IN = {GHCR: "not signed in: set GHCR_USERNAME and GHCR_TOKEN"}
REASONS = (
    (("no basic auth", "unauthorized", "authentication required", "denied"), "{registry} denies {reference}: {login}"),
    (("manifest unknown", "not found", "name unknown"), "{registry} has no {reference}: look at repository and tag"),
    (("no such host",),
     "{reference} is not on this host, and {registry} is not found to pull it: look at repository and tag"),
    (("x509", "certificate"),
     "{registry} shows a certificate that the engine does not trust: give it the CA in certs.d"),
    (("server gave http response",), "{registry} speaks plain HTTP, which the engine refuses"),
    (("no space left",), "{reference}: no space left on this host"),
    (("toomanyrequests", "rate limit"), "{registry} answers no more requests for now: sign in, or wait"),
    (("connection refused", "timeout", "no end after", "unreachable", "reset by peer"),
     "{reference} is not on this host, and {registry} does not answer to pull it"),
)  # fmt: skip

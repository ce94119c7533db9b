"""References, credentials and error texts of registries, without a registry."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from cutover.core.errors import ConfigError
from cutover.core.masking import MASK
from cutover.system import docker, registry


@pytest.mark.parametrize(
    ("reference", "host", "repository"),
    [
        ("ghcr.io/ana/recall/api:sha-1", "ghcr.io", "ghcr.io/ana/recall/api"),
        ("127.0.0.1:5000/api:sha-1", "127.0.0.1:5000", "127.0.0.1:5000/api"),
        ("127.0.0.1:5000/api", "127.0.0.1:5000", "127.0.0.1:5000/api"),
        ("localhost/api@sha256:00", "localhost", "localhost/api"),
        ("recall/api:sha-1", "docker.io", "recall/api"),
        ("debian", "docker.io", "debian"),
        ("r.test/a:t@sha256:00", "r.test", "r.test/a"),
    ],
)
def test_reads_a_reference(reference: str, host: str, repository: str) -> None:
    """Registry and repository are those that docker uses."""
    assert (registry.registry_of(reference), registry.repository_of(reference)) == (host, repository)


@pytest.mark.parametrize(
    ("reference", "fault"),
    [
        ("debian", ""),
        ("ghcr.io/ana/re-call__x/a.b:SHA-1", ""),
        ("LOCALHOST.test:5000/api:1@sha256:00", ""),
        ("app:", ""),  # no tag: it is told elsewhere
        ("Recall/api:1", "'Recall/api' is no image repository"),
        ("ghcr.io/Ana/api:1", "'ghcr.io/Ana/api' is no image repository"),
        ("my app:1", "'my app' is no image repository"),
        ("a$b:1", "'a$b' is no image repository"),
        ("a\x1b[31m:1", "'a\\x1b[31m' is no image repository"),
        ("a//b:1", "'a//b' is no image repository"),
        ("a" * 300 + ":1", f"{'a' * 60!r} and 240 more characters is no image repository: it has at most 255"),
        ("app:two words", "'two words' is no image tag: it has 1 to 128 letters"),
        ("app:line\nbreak", "'line\\nbreak' is no image tag"),
        ("app:" + "x" * 129, "and 69 more characters is no image tag"),
        ("app:-1", "'-1' is no image tag"),
        ("app:\u0661", "is no image tag"),
    ],
)  # fmt: skip
def test_a_name_that_no_engine_accepts_is_told(reference: str, fault: str) -> None:
    """In one line without control characters, and before the engine answers 400."""
    found = registry.reference_fault(reference)
    assert (bool(found), fault in found, found.isprintable()) == (bool(fault), True, True), found


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no tag of it is on this host"),
        (["reg:5000/app:sha-2", "reg:5000/app:sha-1"], "on this host are its tags sha-2, sha-1"),
        ([f"app:{number}" for number in range(9)], "on this host are its tags 0, 1, 2, 3, 4 and 4 more"),
    ],
)
def test_a_tag_that_is_not_there_is_told_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, names: list[str], said: str
) -> None:
    """The newest images first; a mistyped tag is seen at once."""

    def missing(reference: str, _credentials: object) -> None:
        raise ConfigError(registry.explain_failure("dial tcp: no such host", reference, signed=False))

    monkeypatch.setattr(docker, "image_names", lambda _repository: names)
    monkeypatch.setattr(docker, "inspect_image", lambda _reference: None)
    monkeypatch.setattr(registry, "_pull", missing)
    with pytest.raises(ConfigError) as raised:
        registry.ensure_image("app:nope")
    expected = (
        "app:nope is not on this host, and docker.io is not found to pull it: look at repository and tag"
    )
    assert str(raised.value) == f"{expected}; {said}"


@pytest.mark.parametrize(
    ("text", "signed", "expected"),
    [
        (
            "Error: no basic auth credentials",
            False,
            "ghcr.io denies R: not signed in: set GHCR_USERNAME and GHCR_TOKEN",
        ),
        ("Error: denied", True, "ghcr.io denies R: its login may not read or write this repository"),
        (
            "manifest for R not found: manifest unknown: x",
            True,
            "ghcr.io has no R: look at repository and tag",
        ),
        (
            "lookup ghcr.io: no such host",
            False,
            "R is not on this host, and ghcr.io is not found to pull it: look at repository and tag",
        ),
        (
            "x509: certificate signed by unknown authority",
            False,
            "ghcr.io shows a certificate that the engine does not trust: give it the CA in certs.d",
        ),
        ("write /x: no space left on device", True, "R: no space left on this host"),
        (
            "dial tcp 1.2.3.4:443: connect: connection refused",
            True,
            "R is not on this host, and ghcr.io does not answer to pull it",
        ),
        (
            "docker pull R …: no end after 1800 s",
            True,
            "R is not on this host, and ghcr.io does not answer to pull it",
        ),
        ("something else", True, "R: something else"),
    ],
)
def test_explains_a_refusal(text: str, expected: str, *, signed: bool) -> None:
    """An error of the engine becomes one line with the way out."""
    reference = "ghcr.io/ana/api:sha-1"
    assert registry.explain_failure(text, reference, signed=signed) == expected.replace("R", reference, 1)


@pytest.mark.parametrize(
    ("digests", "expected"),
    [
        ([], ""),
        (["other/api@sha256:00"], ""),
        (["other/api@sha256:00", "ghcr.io/ana/api@sha256:11"], "ghcr.io/ana/api@sha256:11"),
        (["ghcr.io/ana/api2@sha256:22"], ""),
    ],
)
def test_takes_the_digest_of_its_own_repository(digests: list[str], expected: str) -> None:
    """The digest of the same image in another repository is not used."""
    attributes = {"Id": "sha256:ab", "RepoDigests": digests, "Architecture": "amd64"}
    assert registry.read_image_fact("ghcr.io/ana/api:sha-1", attributes).digest == expected


@pytest.mark.parametrize(
    "reference", ["app:1", "library/app:1", "docker.io/app:1", "docker.io/library/app:1"]
)
@pytest.mark.parametrize("named", ["app", "docker.io/library/app"])
def test_an_image_of_docker_hub_has_several_names(
    monkeypatch: pytest.MonkeyPatch, reference: str, named: str
) -> None:
    """Docker shows the short one whichever was asked for, Podman the long one."""
    attributes = {"Id": "sha256:ab", "RepoDigests": [f"{named}@sha256:11"], "Architecture": "amd64"}
    assert registry.read_image_fact(reference, attributes).digest == f"{named}@sha256:11"
    monkeypatch.setattr(docker, "image_names", lambda name: ["app:1"] if name == "app" else [])
    assert registry.tags_here(reference) == "; on this host are its tags 1"


@pytest.mark.parametrize(("mine", "ok"), [("amd64", True), ("arm64", False), ("", True)])
def test_refuses_an_image_for_another_machine(mine: str, *, ok: bool) -> None:
    """An image for another architecture is refused: the engine would start it."""
    image = registry.ImageFact("r/api:sha-1", "sha256:ab", "", "amd64")
    if ok:
        assert registry.require_architecture(image, mine) is image
        return
    with pytest.raises(ConfigError, match="r/api:sha-1 is for amd64, this host is arm64"):
        registry.require_architecture(image, mine)


@pytest.mark.parametrize(
    ("host", "environment"),
    [
        ("ghcr.io", {}),
        ("ghcr.io", {"GHCR_USERNAME": "ana"}),
        ("docker.io", {"GHCR_USERNAME": "ana", "GHCR_TOKEN": "canary"}),
        ("evil.example", {"GHCR_USERNAME": "ana", "GHCR_TOKEN": "canary"}),
    ],
)
def test_sends_credentials_nowhere_else(host: str, environment: dict[str, str]) -> None:
    """The token of one registry is sent to no other one."""
    assert registry.credentials_for(host, environment) == {}


@pytest.mark.parametrize(
    ("host", "extra"),
    [("ghcr.io", {}), ("r.test:5000", {"GHCR_HOST": "r.test:5000"})],
    ids=["ghcr.io", "GHCR_HOST"],
)
def test_sends_credentials_to_their_registry(host: str, extra: dict[str, str]) -> None:
    """GHCR_USERNAME and GHCR_TOKEN are used for ghcr.io, or for GHCR_HOST, and the token is masked."""
    environment = {"GHCR_USERNAME": "ana", "GHCR_TOKEN": "canary-token-1"} | extra
    assert registry.credentials_for(host, environment) == {"username": "ana", "password": "canary-token-1"}
    assert MASK("canary-token-1") == "***"


class Engine(http.server.BaseHTTPRequestHandler):
    """The API of an engine without images, whose pull answers *rows*, or never ends without them."""

    rows: tuple[str, ...] = ()
    credentials: str | None = None
    ended = threading.Event()

    def do_GET(self) -> None:
        found = self.path == "/version"
        self._answer(
            200 if found else 404, {"ApiVersion": "1.41", "Arch": "amd64", "message": "No such image"}
        )

    def do_POST(self) -> None:
        if self.path.endswith("/auth"):
            self._answer(200, {"Status": "Login Succeeded"})
            return
        type(self).credentials = self.headers.get("X-Registry-Auth")
        if not self.rows:
            self.ended.wait(60)
        self._answer(200, *({"error": row} for row in self.rows))

    def _answer(self, status: int, *rows: dict[str, str]) -> None:
        body = "\r\n".join(map(json.dumps, rows)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Engine]]:
    """An engine on a free port of loopback, to which the SDK connects."""

    class OneEngine(Engine):
        ended = threading.Event()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneEngine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        docker.client.cache_clear()
        yield OneEngine
        OneEngine.ended.set()
        server.shutdown()
    docker.client.cache_clear()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("manifest unknown", "r.test has no r.test/a:1: look at repository and tag"),
        ("write /x: no space left on device", "r.test/a:1: no space left on this host"),
        ("", "r.test/a:1 is not on this host, and r.test does not answer to pull it"),
    ],
    ids=["unknown", "full", "never ends"],
)
def test_a_pull_fails_in_one_line(
    engine: type[Engine], monkeypatch: pytest.MonkeyPatch, row: str, expected: str
) -> None:
    """An error in the stream of a pull is explained, and a pull that never ends is given up at its deadline."""
    engine.rows = (row,) if row else ()
    monkeypatch.setattr(registry, "PULL_DEADLINE_S", 30.0 if row else 0.3)
    with pytest.raises(ConfigError) as raised:
        registry.ensure_image("r.test/a:1", {})
    assert str(raised.value) == expected


def test_a_pull_sends_the_credentials_of_its_registry(engine: type[Engine]) -> None:
    """GHCR_TOKEN is sent with the pull itself, and with no pull from another registry."""
    engine.rows = ("denied",)
    environment = {"GHCR_HOST": "r.test", "GHCR_USERNAME": "ana", "GHCR_TOKEN": "canary-token-2"}
    for reference in ("r.test/a:1", "other.test/a:1"):
        with pytest.raises(ConfigError, match="denies"):
            registry.ensure_image(reference, environment)
        sent = base64.urlsafe_b64decode(engine.credentials or "").decode()
        assert ("canary-token-2" in sent) is (reference == "r.test/a:1"), sent

"""The engine's API: requests to its socket, and through the SDK for every other address."""

from __future__ import annotations

import http.server
import json
import resource
import socket
import socketserver
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from cutover.core.errors import EngineUnavailable
from cutover.system import docker

LOG = b"\x01\0\0\0\0\0\0\x06first\n" + b"\x02\0\0\0\0\0\0\x07second\n"


def described(name: str, *, tty: bool = False) -> dict[str, Any]:
    """What `docker inspect` says of a container, as far as it is read."""
    config = {"Image": f"{name}:1", "Tty": tty}
    return {
        "Id": name,
        "Name": f"/{name}",
        "Image": "sha256:1",
        "State": {},
        "Config": config,
        "HostConfig": {},
    }


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers with what the test has put on a path; counts connections."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[dict[str, Any]] = {}
    asked: ClassVar[list[str]] = []
    opened: ClassVar[list[int]] = []

    def setup(self) -> None:
        """Count a connection."""
        self.opened.append(1)
        super().setup()

    def do_GET(self) -> None:
        """Send the answer, 404 for what is not there."""
        self.asked.append(self.path)
        found = self.answers.get(urlsplit(self.path).path)
        status = HTTPStatus.NOT_FOUND if found is None else HTTPStatus.OK
        if isinstance(found, HTTPStatus):
            status, found = found, {"message": "broken"}
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """A Unix socket has no address."""
        return ""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """HTTP on a Unix socket."""

    daemon_threads = True


class TcpServer(http.server.ThreadingHTTPServer):
    """HTTP on a port."""


@pytest.fixture(params=["unix", "tcp"])
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[type[Engine]]:
    """An engine on a socket, and one on a port."""

    class OneEngine(Engine):
        answers: ClassVar[dict[str, Any]] = {"/version": {"ApiVersion": "1.44", "MinAPIVersion": "1.24"}}
        asked: ClassVar[list[str]] = []
        opened: ClassVar[list[int]] = []

    path = str(tmp_path / "engine.sock")
    docker.client.cache_clear()
    with (
        UnixServer(path, OneEngine)
        if request.param == "unix"
        else TcpServer(("127.0.0.1", 0), OneEngine) as server
    ):
        address = (
            f"unix://{path}"
            if request.param == "unix"
            else f"tcp://127.0.0.1:{server.socket.getsockname()[1]}"
        )
        monkeypatch.setenv("DOCKER_HOST", address)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield OneEngine
        server.shutdown()
    docker.client.cache_clear()


def test_containers_are_listed_and_inspected(engine: type[Engine]) -> None:
    """The containers of a project are those of its labels, without one that was removed meanwhile."""
    engine.answers.update(
        {
            "/containers/json": [{"Id": "a"}, {"Id": "gone"}, {"Id": "b"}],
            "/containers/a/json": described("a"),
            "/containers/b/json": described("b"),
        }
    )
    assert [each.id for each in docker.containers("shop_blue", "api")] == ["a", "b"]
    (listed,) = [each for each in engine.asked if each.startswith("/containers/json")]
    query = parse_qs(urlsplit(listed).query)
    assert query["all"] == ["1"]
    assert json.loads(query["filters"][0])["label"] == [
        "com.docker.compose.project=shop_blue",
        "com.docker.compose.oneoff=False",
        "com.docker.compose.service=api",
    ]


def test_names_of_running_services_on_a_network(engine: type[Engine]) -> None:
    """Their own and their aliases there; not those of a service without a task, or on another network."""

    def service(name: str, target: str, running: int) -> dict[str, Any]:
        networks = [{"Target": target, "Aliases": [name.partition("_")[2]]}]
        spec = {"Name": name, "TaskTemplate": {"Networks": networks}}
        return {"Spec": spec, "ServiceStatus": {"RunningTasks": running}}

    there = [service("data_db", "n1", 1), service("data_cache", "n1", 0), service("other_mail", "n2", 1)]
    engine.answers.update({"/networks/shared": {"Id": "n1"}, "/services": there})
    assert docker.swarm_names("shared") == {"data_db", "db"}
    assert docker.network("none") is None


def test_a_port_is_found_in_the_list_of_the_engine(engine: type[Engine]) -> None:
    """Without the filter `publish`, which Podman refuses; UDP and unpublished ports are others."""
    rows = {
        "mine": [{"IP": "127.0.0.1", "PrivatePort": 8000, "PublicPort": 8001, "Type": "tcp"}],
        "udp": [{"PrivatePort": 53, "PublicPort": 8001, "Type": "udp"}],
        "inner": [{"PrivatePort": 8001, "Type": "tcp"}],
        "none": None,
    }
    engine.answers["/containers/json"] = [{"Id": name, "Ports": ports} for name, ports in rows.items()]
    engine.answers.update({f"/containers/{name}/json": described(name) for name in rows})
    assert [each.id for each in docker.published_by(8001)] == ["mine"]
    (listed,) = [each for each in engine.asked if each.startswith("/containers/json")]
    assert "publish" not in listed


@pytest.mark.parametrize(("body", "said"), [(b"", "nothing"), (b"<html>busy</html>", "<html>busy</html>")])
def test_an_answer_without_json_is_no_answer(engine: type[Engine], body: bytes, said: str) -> None:
    """Podman answers `top` of an image without `ps` with nothing; a gateway may answer with HTML."""
    engine.answers["/containers/a/top"] = body
    with pytest.raises(EngineUnavailable, match=f"answers GET /containers/a/top with no JSON: {said}"):
        docker.top("a")


def test_what_is_not_there_is_none(engine: type[Engine]) -> None:
    """A removed container and an image that is not here are no errors."""
    assert docker.inspect("a") is None
    assert docker.image_id("registry.test:5000/shop/api:1") is None
    assert engine.asked[-1].startswith("/images/registry.test:5000/shop/api:1/json")


@pytest.mark.parametrize(("tty", "raw"), [(False, LOG), (True, b"first\nsecond\n")])
def test_a_log_is_read(engine: type[Engine], raw: bytes, *, tty: bool) -> None:
    """The frames of both streams are joined; a container with a terminal has none."""
    engine.answers.update({"/containers/a/json": described("a", tty=tty), "/containers/a/logs": raw})
    assert docker.logs("a", since=1.5, tail=7) == ["first", "second"]
    query = parse_qs(urlsplit(engine.asked[-1]).query)
    assert query == {"stdout": ["1"], "stderr": ["1"], "timestamps": ["1"], "tail": ["7"], "since": ["1.5"]}


def test_a_line_of_a_log_ends_where_its_writer_ended_it(engine: type[Engine]) -> None:
    """JSON may hold U+2028 and its like as they are; a progress bar writes over its line."""
    raw = '{"msg": "a\u2028b\x85c"}\n10%\r20%\n\nlast\u2029'.encode()
    engine.answers.update({"/containers/a/json": described("a", tty=True), "/containers/a/logs": raw})
    assert docker.logs("a") == ['{"msg": "a\u2028b\x85c"}', "10%", "20%", "", "last\u2029"]


@pytest.mark.parametrize(
    ("at", "sent"), [(-0.00001, "0"), (0.00001, "0.00001"), (1795981874.25, "1795981874.25"), (60.0, "60")]
)
def test_a_time_is_sent_as_the_engine_reads_it(engine: type[Engine], at: float, sent: str) -> None:
    """Without an exponent, and not before 1970: a container that never started has no time."""
    engine.answers.update({"/containers/a/json": described("a"), "/containers/a/logs": LOG})
    docker.logs("a", since=at)
    assert parse_qs(urlsplit(engine.asked[-1]).query)["since"] == [sent]


def test_a_log_that_cannot_be_read_says_why(engine: type[Engine]) -> None:
    """One line names the container, whether it is gone or the engine refuses."""
    with pytest.raises(
        EngineUnavailable, match=r"^the log of a cannot be read: the Docker engine answers 404: null$"
    ):
        docker.logs("a")
    engine.answers.update(
        {
            "/containers/a/json": described("a"),
            "/containers/a/logs": HTTPStatus.NOT_IMPLEMENTED,
        }
    )
    with pytest.raises(
        EngineUnavailable,
        match=r'^the log of a cannot be read: the Docker engine answers 501: {"message": "broken"}$',
    ):
        docker.logs("a")


def test_an_engine_that_fails_is_no_answer(engine: type[Engine]) -> None:
    """An error of the engine is not the absence of what was asked for."""
    engine.answers.update({"/containers/a/json": HTTPStatus.INTERNAL_SERVER_ERROR})
    with pytest.raises(EngineUnavailable, match=r"^the Docker engine answers 500: "):
        docker.inspect("a")


@pytest.mark.parametrize("engine", ["unix"], indirect=True)
def test_one_connection_serves_all_requests(engine: type[Engine]) -> None:
    """A connection to the socket is kept."""
    for _ in range(3):
        assert docker.inspect("a") is None
    assert len(engine.opened) == 1


def test_a_socket_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says where the engine was looked for, and why it does not answer."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EngineUnavailable) as raised:
        docker.inspect("a")
    expected = f"the Docker engine at unix://{tmp_path}/none.sock does not answer: no such file or directory"
    assert str(raised.value) == expected


def test_an_engine_that_is_mute_is_waited_for_no_longer_than_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that accepts and never answers ends with one line."""
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/mute.sock")
        monkeypatch.setattr(docker, "API_DEADLINE_S", 0.1)
        with pytest.raises(EngineUnavailable, match=r"mute\.sock does not answer: timed out$"):
            docker.inspect("a")


def test_a_log_of_any_size_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 MB, also without a line break, the end or the beginning is kept: at most 100 MB more are resident."""
    line = b"2026-01-31T12:00:00.000000000Z ERROR " + b"x" * 160 + b"\n"
    frame = b"\1\0\0\0" + len(line).to_bytes(4, "big") + line
    piece = frame * 300

    def stream(path: str, *_: object) -> Iterator[bytes]:
        if path.endswith("/json"):
            yield b'{"Config": {"Tty": false}}'
            return
        for _n in range(300_000_000 // len(piece)):
            yield piece

    monkeypatch.setattr(docker, "_stream", stream)
    before = peak_mb()
    last = docker.logs("a", tail=5000)
    assert sum(map(len, last)) <= docker.MOST_LOG_LETTERS
    assert docker.is_cut(last, 5000)
    first = docker.logs("a", tail=None)
    assert len(first) == docker.MOST_HEAD_LINES
    assert peak_mb() - before < 100
    assert max(map(len, docker._lines(b"y" * 65_536 for _ in range(500)))) == docker.MOST_LINE_BYTES


def peak_mb() -> float:
    """The most memory that this process had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

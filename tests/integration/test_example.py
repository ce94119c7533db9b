"""The example service: images, Compose file, data and defects."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from examples.images import image
from examples.releases import build
from tests.helpers.sandbox import Place, docker, eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def repo() -> Iterator[str]:
    """An image repository name used only by these tests."""
    name = f"example-{uuid.uuid4().hex[:8]}/api"
    yield name
    tags = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", name).split()
    docker("image", "rm", *tags, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An isolated environment on the engine for one test."""
    place = Place(tmp_path)
    place.open()
    yield place
    place.close()


def inspect(container: str) -> dict[str, Any]:
    """Output of `docker inspect` for *container*."""
    found: dict[str, Any] = json.loads(docker("inspect", container))[0]
    return found


def test_a_release_is_built_again_only_when_it_differs(repo: str) -> None:
    """An image is built again only if its source or defect has changed."""

    def image_id(*words: Any) -> str:
        return docker("image", "inspect", "--format", "{{.Id}}", build(*words, repo=repo))

    good = image_id("sha-1111111")
    assert image_id("sha-1111111") == good
    bad = image_id("sha-1111111", "wrong-version")
    assert bad != good
    assert image_id("sha-1111111", "wrong-version") == bad


def test_two_colors_share_embedded_data_and_run_hardened(repo: str, place: Place) -> None:
    """Without DATABASE_URL both colors read and write the same SQLite file, in read-only containers."""
    build("sha-1111111", repo=repo)
    build("sha-2222222", repo=repo)
    place.configure("blue", IMAGE_REPO=repo, IMAGE_TAG="sha-1111111")
    place.configure("green", IMAGE_REPO=repo, IMAGE_TAG="sha-2222222")
    place.migrate("blue")
    for color, tag in (("blue", "sha-1111111"), ("green", "sha-2222222")):
        place.up(color)
        with place.client(color) as client:
            answer = client.get("/version")
            assert answer.json() == {"service": "recall", "version": tag, "color": color, "built_as": tag}
            assert (answer.headers["X-Color"], answer.headers["X-Release"]) == (color, tag)
            assert client.get("/readyz").json() == {"ready": True, "checks": {"database": "ok"}}
    with place.client("blue") as blue, place.client("green") as green:
        stored = blue.post("/memories", json={"text": "kept"})
        assert stored.status_code == 201
        assert green.get(f"/memories/{stored.json()['id']}").json() == stored.json()
        assert green.post("/memories", json={"text": "by the other one"}).status_code == 201
        assert [memory["text"] for memory in blue.get("/memories").json()["memories"]] == [
            "by the other one",
            "kept",
        ]
    seen = inspect(place.container("green"))
    assert seen["Config"]["User"] == "10001:10001"
    assert seen["HostConfig"]["ReadonlyRootfs"]
    assert seen["HostConfig"]["Init"]
    assert seen["HostConfig"]["CapDrop"] == ["ALL"]
    assert seen["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]
    assert seen["HostConfig"]["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}
    assert seen["NetworkSettings"]["Ports"] == {
        "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(place.ports["green"])}]
    }


def test_ready_is_the_answer_of_each_dependency(repo: str, place: Place) -> None:
    """/readyz is true with PostgreSQL, Redis and the AI endpoint, and false while one of them is stopped."""
    for name in ("postgres", "redis", "ai"):
        image(name)
    build("sha-1111111", repo=repo)
    place.configure("shared", IMAGE_TAG="none", POSTGRES_PASSWORD="p$w /d")
    place.up("shared", "db", "cache", "ai")
    place.configure(
        "blue",
        IMAGE_REPO=repo,
        IMAGE_TAG="sha-1111111",
        DATABASE_URL=f"postgresql://recall:p%24w%20%2Fd@{place.name}-db:5432/recall",
        REDIS_URL=f"redis://{place.name}-cache:6379/0",
        VLLM_ENDPOINT=f"http://{place.name}-ai:8000/v1",
    )
    place.migrate("blue")
    place.up("blue")
    with place.client("blue") as blue:

        def reason(part: str) -> Callable[[], bool]:
            return lambda: (
                (answer := blue.get("/readyz")).status_code == 503 and part in answer.json()["reason"]
            )

        def ready() -> bool:
            return bool(blue.get("/readyz").json()["ready"] is True)

        eventually(ready)
        key = blue.post("/memories", json={"text": "one two", "source": "a test"}).json()["id"]
        assert [blue.get(f"/memories/{key}").headers["X-Cache"] for _ in range(2)] == ["miss", "hit"]
        assert blue.get(f"/memories/{key}/summary").json() == {"id": key, "summary": "Summarize: one two"}
        for service, part in (("cache", "redis: "), ("ai", "ai: "), ("db", "database: ")):
            place.compose("shared", "stop", service)
            eventually(reason(part))
            place.up("shared", service)
            eventually(ready)
        assert blue.get(f"/memories/{key}").json()["text"] == "one two"


def test_a_contract_revision_breaks_the_release_before(repo: str, place: Place) -> None:
    """The contract migration breaks the previous release; the bad migration fails."""
    build("sha-4444444", repo=repo, revisions=3)
    build("sha-2222222", "migration-contract", repo=repo)
    build("sha-3333333", "bad-migration", repo=repo)
    place.configure("blue", IMAGE_REPO=repo, IMAGE_TAG="sha-4444444")
    place.migrate("blue")
    place.up("blue")
    with place.client("blue") as blue:
        assert blue.post("/memories", json={"text": "kept"}).status_code == 201
        place.configure("green", IMAGE_REPO=repo, IMAGE_TAG="sha-3333333")
        with pytest.raises(RuntimeError, match="no such table"):
            place.migrate("green")
        # The expanding revision before the failing one is in, and disturbs nobody.
        assert blue.get("/memories").status_code == 200
        place.configure("green", IMAGE_REPO=repo, IMAGE_TAG="sha-2222222")
        place.migrate("green")
        assert blue.get("/memories").status_code == 500
    place.up("green")
    with place.client("green") as green:
        assert [memory["text"] for memory in green.get("/memories").json()["memories"]] == ["kept"]


Ask = Callable[[str], httpx.Response | None]
ANSWERS: dict[str, tuple[str, list[tuple[int, object]]]] = {
    "wrong-version": ("/version", [(200, {"service": "recall", "version": "sha-0000000"})]),
    "wrong-service": ("/version", [(200, {"service": "reminder", "version": "sha-1111111"})]),
    "ready-string": ("/readyz", [(200, {"ready": "true"})]),
    "never-ready": ("/readyz", [(503, {"ready": False, "reason": "still warming up"})]),
    "wrong-status": ("/memories", [(404, {"error": "not found"})]),
    "wrong-json": ("/memories", [(200, {"items": []})]),
    "half-errors": ("/slow?seconds=0", [(500, {"error": "internal error"}), (200, {"slept": 0.0})]),
}
LOGS = {
    "error-spike": '"msg": "cannot write audit record 19: quota exceeded"',
    "traceback-log": "\nTraceback (most recent call last):\n",
    "chatty": '"level": "INFO", "logger": "recall", "msg": "error budget: 0 errors',
    "baseline-errors": '"level": "ERROR", "logger": "recall", "msg": "feed timed out',
    "new-error": '"level": "ERROR", "logger": "recall", "msg": "lost the lease on shard people"',
}


@pytest.fixture
def lone(repo: str) -> Iterator[Callable[[str], tuple[str, Ask]]]:
    """Returns a function that starts the good image with a defect and returns the container name and a client."""
    build("sha-1111111", repo=repo)
    started: list[str] = []

    def start(defect: str) -> tuple[str, Ask]:
        name, port = f"example-{uuid.uuid4().hex[:8]}", free_port()
        started.append(name)
        hardened = ("--init", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp", "--volume", "/data")
        told = ("--env", f"DEFECT={defect}", "--env", "DEFECT_SECONDS=600", "--restart", "unless-stopped")
        publish = ("--publish", f"127.0.0.1:{port}:8000")
        docker("run", "--detach", "--name", name, *hardened, *told, *publish, f"{repo}:sha-1111111")
        return name, asker(port)

    yield start
    docker("rm", "--force", "--volumes", *started, check=False)


def asker(port: int) -> Ask:
    """A function that sends a GET request to *port*; it returns None if there is no response."""

    def ask(path: str) -> httpx.Response | None:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=60, trust_env=False)
        except httpx.TransportError:
            return None

    return ask


@pytest.mark.parametrize("defect", ANSWERS)
def test_a_defect_of_an_answer(lone: Callable[[str], tuple[str, Ask]], defect: str) -> None:
    """Each defect of a response has exactly the expected wrong response."""
    path, expected = ANSWERS[defect]
    _, ask = lone(defect)
    eventually(lambda: ask("/metrics"))
    answers = [ask(path) for _ in expected]
    assert [(answer.status_code, answer.json()) for answer in answers if answer is not None] == expected


@pytest.mark.parametrize("defect", LOGS)
def test_a_defect_of_the_log(lone: Callable[[str], tuple[str, Ask]], defect: str) -> None:
    """The release is ready, and its log contains the expected lines."""
    name, ask = lone(defect)
    answer = eventually(lambda: ask("/readyz"))
    assert answer is not None
    assert answer.json()["ready"] is True
    eventually(lambda: LOGS[defect] in docker("logs", name, merge=True))


@pytest.mark.parametrize("defect", ["crash-at-start", "crash-loop-late", "dies-after-healthy"])
def test_a_crash_is_a_restart(lone: Callable[[str], tuple[str, Ask]], defect: str) -> None:
    """The process exits, and the engine restarts it repeatedly."""
    name, _ = lone(defect)
    eventually(lambda: inspect(name)["RestartCount"] >= 2)


def test_a_release_breaks_when_it_is_told_to(lone: Callable[[str], tuple[str, Ask]]) -> None:
    """breaks-later fails as soon as its file exists, so that a test controls the time."""
    name, ask = lone("breaks-later")
    ready = eventually(lambda: ask("/readyz"))
    assert ready is not None
    assert ready.status_code == 200
    docker("exec", name, "touch", "/tmp/break")
    broken = ask("/readyz")
    assert broken is not None
    assert broken.status_code == 500


def test_a_dropped_probe_is_one(lone: Callable[[str], tuple[str, Ask]]) -> None:
    """The first external connection gets no response, later ones do."""
    name, ask = lone("dropped-probe")
    # The image's own probe does not use the drop up, so wait for that instead of asking.
    eventually(lambda: inspect(name)["State"]["Health"]["Status"] == "healthy")
    assert ask("/readyz") is None
    assert [answer and answer.status_code for answer in (ask("/readyz"), ask("/readyz"))] == [200, 200]

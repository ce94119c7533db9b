"""A revert while the engine refuses or hangs, is slow, or the state directory is damaged: users go back first."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path

import pytest

from cutover.core.change import Change, line, undo_script
from cutover.core.text import now
from cutover.proxy.nginx import read_marker
from cutover.release import transaction
from cutover.release.colors import BeforeRelease
from cutover.release.history import Record
from cutover.release.rollback import write_live_history
from cutover.release.state import State, did_revert
from cutover.release.transaction import Transaction
from cutover.system import process
from tests.crash.acting import ID, second, write
from tests.crash.place import NEW, OLD, Place, lives, until
from tests.crash.world import World
from tests.helpers.proxy_files import create_marker
from tests.plugin.project import Project

MAX_S = 600.0
FLIP_WITHIN_S = 5.0
ANSWERS = str(resources.files("cutover.release") / "scripts" / "answers.sh")


@contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of a color that answers each request with *status*; 0: it accepts and never answers."""

    class Color(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not status:
                time.sleep(5)
                return
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Color) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextmanager
def released(root: Path, port: int) -> Iterator[World]:
    """Version 2 is live on green, in its watch; version 1 runs on blue, whose port is *port*."""
    world = World.at(root, "blue")
    world.put("blue", "api", "1", "running")
    with world.on_path():
        alive = world.state.acquire({"who": "ana"})
        world.state.begin(ID, MAX_S)
        up, switch = world.deploy("green", "2"), world.switch(port)
        assert world.state.step(ID, [up], MAX_S).ok
        assert world.state.step(ID, [up, switch], MAX_S).ok
        assert read_marker(world.marker).color == "green"
        yield world
        world.remember(mode="")
        assert world.state.revert(ID).ok
        assert world.seen()["live"] == ["blue"]
        assert world.seen()["blue api"] == ["sha256:1"]
        assert world.seen()["green api"] == []
        os.close(alive)
        guard = int((world.state.root / "guard.pid").read_text().split()[0])
        until(lambda: not lives(guard), "the guard goes")


# --- the flip needs no engine ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["refuses", "mute"])
def test_users_go_back_without_an_engine(tmp_path: Path, mode: str) -> None:
    """The old color answers on its port: traffic goes back at once; what needs the engine is done when it is back."""
    with answering(200) as port, released(tmp_path, port) as world:
        world.remember(mode=mode)
        begun = time.monotonic()
        reverting = subprocess.Popen(
            ("sh", str(world.state.root / "revert.sh"), str(world.state.root), ID),
            env=process.clean_environment(), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until(lambda: read_marker(world.marker).color == "blue", "the flip")
        assert time.monotonic() - begun < FLIP_WITHIN_S
        said = reverting.communicate()[1].strip()
        assert said == ("Cannot connect to the Docker daemon" if mode == "refuses" else "")
        assert reverting.returncode
        assert world.state.open_release() == ID


@pytest.mark.parametrize("status", [500, 503, 0, None])
def test_an_old_color_that_does_not_answer_must_be_started_first(tmp_path: Path, status: int | None) -> None:
    """Without an answer of it, and without an engine that could start it, traffic is not sent to it."""
    with answering(status or 0) as port, released(tmp_path, port if status is not None else 9) as world:
        world.remember(mode="refuses")
        done = world.state.revert(ID)
        assert done.last_line == "Cannot connect to the Docker daemon"
        assert read_marker(world.marker).color == "green"


@pytest.mark.parametrize("tool", ["curl", "bash", "wget"])
@pytest.mark.parametrize(
    ("status", "answers"), [(200, True), (204, True), (404, True), (500, False), (0, False), (None, False)]
)
def test_a_color_answers_with_whatever_tool_is_there(
    tmp_path: Path, tool: str, status: int | None, answers: bool
) -> None:
    """An answer counts, a connection does not; wget does not tell a 404 from a 500."""
    for name in ("timeout", tool):
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is missing: scripts/test installs it as root")
        (tmp_path / name).symlink_to(path)
    with answering(status or 0) as port:
        argv = (str(shutil.which("sh")), ANSWERS, str(port if status is not None else free_port()), "/readyz")
        done = subprocess.run(argv, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is (answers and (tool, status) != ("wget", 404)), done
    assert (done.stdout, done.stderr) == ("", "")


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# --- a release that starts slowly ------------------------------------------------------------------------------------
def test_what_a_revert_has_started_is_waited_for(tmp_path: Path) -> None:
    """Version 1 needs three waits to get healthy: each retry waits for the container of the first, by whomever."""
    world = World.at(tmp_path, "blue")
    world.put("blue", "api", "1", "running")
    world.put("blue", "worker", "1", "running")
    with world.on_path():
        alive = world.state.acquire({"who": "ana"})
        world.state.begin(ID, MAX_S)
        assert world.state.step(ID, [world.deploy("blue", "2")], MAX_S).ok
        world.remember(slow_images={"sha256:1": 2})
        started = []
        for ok in (False, False, False, False, True):  # api and worker need two waits each
            assert world.state.revert(ID).ok is ok
            there = world.engine.memory["containers"]
            started.append(
                {each["service"]: name for name, each in there.items() if each["image"] == "sha256:1"}
            )
        assert {each["api"] for each in started} == {started[-1]["api"]}
        assert {each["worker"] for each in started[2:]} == {started[-1]["worker"]}
        for _ in range(2):  # also by hand afterwards
            script = str(world.state.root / "undo.sh")
            subprocess.run(("sh", "-eu", script), check=True, env=process.clean_environment())
        assert set(world.engine.memory["containers"]) == set(started[-1].values())
        os.close(alive)
        guard = int((world.state.root / "guard.pid").read_text().split()[0])
        until(lambda: not lives(guard), "the guard goes")


# --- the session waits, and has the undo in memory -------------------------------------------------------------------
def session_of(place: Place, *changes: Change) -> Transaction:
    """The transaction of a session in *place* that has made *changes*."""
    tx = Transaction(place.state, MAX_S, "sha-2", BeforeRelease(None, None), None, id=ID, changes=[*changes])
    place.left_open(undo_script(tx.changes))
    return tx


def test_a_session_goes_on_until_the_undo_works(place: Place) -> None:
    """An engine that restarts fails an undo: the session tells it once, and says which attempt has done it."""
    cause, said, slept = place.folder / "cause", list[str](), list[float]()
    cause.touch()
    tx = session_of(place, write(place.thing), Change("up", "x", ("true",), (f"[ ! -e {cause} ]",), 9.0))

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            cause.unlink()

    done = tx.revert(said.append, clock=lambda: sum(slept), sleep=sleep)
    assert did_revert(done, ID)
    assert "note: done by attempt 4, after 6 s" in done.out.splitlines()
    assert len(said) == 1
    assert place.says == OLD


def test_a_session_gives_up_after_its_patience(place: Place) -> None:
    """Then an operator is needed, and the guard goes on."""
    slept = list[float]()
    tx = session_of(place, write(place.thing), Change("up", "x", ("true",), ("false",), 9.0))
    done = tx.revert(clock=lambda: sum(slept), sleep=slept.append)
    assert not done.ok
    assert sum(slept) == transaction.REVERT_PATIENCE_S
    assert place.state.open_release() == ID


@pytest.mark.parametrize("damage", ["truncated", "half", "deleted", "other", "state removed", "open deleted"])
def test_a_living_session_writes_its_undo_again(place: Place, damage: str) -> None:
    """Whatever became of the state directory: the session knows its undo, writes it and reverts."""
    tx = session_of(place, write(place.thing), second(place.thing))
    root, path = place.state.root, place.state.root / "undo.sh"
    Path(f"{place.thing}.second").touch()
    if damage == "state removed":
        shutil.rmtree(root)
    elif damage == "open deleted":
        (root / "open").unlink()
    elif damage == "deleted":
        path.unlink()
    else:
        text = path.read_text()
        path.write_text({"truncated": "", "half": text[: len(text) // 2], "other": "false\n"}[damage])
    assert did_revert(tx.revert(sleep=lambda _: None), ID)
    place.assert_reverted()


def test_a_closed_release_is_not_opened_again(place: Place) -> None:
    """Somebody else has reverted it, or it was committed: there is nothing to undo."""
    tx = session_of(place, write(place.thing))
    assert place.state.close(ID)
    done = tx.revert()
    assert done.ok
    assert not did_revert(done, ID)
    assert place.says == NEW


@pytest.mark.parametrize("keep", [0, 20, -2], ids=["nothing", "the beginning", "all but the last line"])
def test_a_part_of_an_undo_is_not_run(place: Place, keep: int) -> None:
    """A script that lacks its end would end well and close the release; nobody but its session can write it again."""
    place.left_open()
    path = place.state.root / "undo.sh"
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:-1]) if keep < 0 else text[:keep])
    done = place.state.revert(ID)
    assert "is not complete" in done.last_line
    assert (place.state.open_release(), place.says) == (ID, NEW)


def test_a_guard_whose_state_is_gone_ends(place: Place) -> None:
    """It cannot do anything any more, and does not go on for ten minutes."""
    place.left_open(f"false\n{line('true')}\n")
    argv = ("sh", str(place.state.root / "guard.sh"), str(place.state.root), ID, "60")
    environment = os.environ | {"CUTOVER_GUARD_PAUSE_S": "0.1"}
    guard = subprocess.Popen(argv, env=environment)
    until((place.state.root / "guard.log").exists, "the guard tries")
    place.state.root.rename(place.folder / "gone")
    assert guard.wait(timeout=30) == 0


# --- `cutover rollback` ----------------------------------------------------------------------------------------------
PROXY = """
[proxy]
driver = "nginx"
url = "http://127.0.0.1:{port}"
marker_dir = "{marker}"
"""


@contextmanager
def proxying(marker: Path) -> Iterator[int]:
    """The port of a proxy that answers in the name of the color in *marker*."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X-Color", str(read_marker(marker).color))
            self.send_header("X-Cutover-Marker", "seen")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize("engine", ["refuses", "mute"])
@pytest.mark.parametrize("warm", ["warm", "gone", "replaced"])
def test_a_rollback_without_an_engine_flips_to_a_color_that_answers(
    tmp_path: Path, engine: str, warm: str
) -> None:
    """What users had before answers on its port: they get it. Else the engine must say what runs there."""
    project, marker = Project.at(tmp_path), tmp_path / "live"
    create_marker(marker, "green")
    records = [
        Record(color, tag, f"sha256:{tag}", "h", f"c{tag}", f"{tag}.yml", verified=True, by="ana", at=now())
        for color, tag in (("blue", "sha-1"), ("green", "sha-2"), ("blue", "sha-3"))
    ]
    state = State(project.state)
    state.prepare()
    for each in records[: 3 if warm == "replaced" else 2]:
        state.keep_record(each)
    write_live_history(state, records[:2])
    with proxying(marker) as port, answering(200) as warm_port, socket.socket(socket.AF_UNIX) as mute:
        blue = free_port() if warm == "gone" else warm_port
        with (project.folder / "cutover.toml").open("a") as settings:
            settings.write(PROXY.format(port=port, marker=marker))
        (project.folder / ".env.blue").write_text(f"IMAGE_TAG=sha-1\nAPI_HTTP_PORT={blue}\n")
        if engine == "mute":
            mute.bind(str(project.folder / "no.sock"))
            mute.listen(128)
        argv, begun = (sys.executable, "-m", "cutover", "rollback"), time.monotonic()
        done = subprocess.run(
            argv, cwd=project.folder, env=project.environment(), capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - begun
    if warm == "warm":
        assert (done.returncode, read_marker(marker).color) == (0, "blue"), done.stderr
        assert "trap serves blue again, where sha-1 was" in done.stdout
        assert (
            "the Docker engine does not answer, so its container and the gate were not asked" in done.stdout
        )
        assert seconds < 10
        assert state.history()[-1]["event"] == "rolled back"
    else:
        assert (done.returncode, read_marker(marker).color) == (10, "green"), done.stdout
        assert "the Docker engine at" in done.stderr
    assert state.open_release() is None


# --- a session whose state is damaged --------------------------------------------------------------------------------
DAMAGES = {
    "truncated": "(state / 'undo.sh').write_text('')",
    "deleted": "(state / 'undo.sh').unlink()",
    "state removed": "shutil.rmtree(state)",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_release_whose_state_was_damaged_is_reverted_by_its_session(tmp_path: Path, damage: str) -> None:
    """In the middle of a release: it ends with 1, all is as before, nothing is open, and its guard goes."""
    project = Project.at(tmp_path)
    project.test(
        "import os, pathlib, shutil\ndef test_bad(target):\n"
        f"    state = pathlib.Path({str(project.state)!r})\n"
        f"    print('guard', (state / 'guard.pid').read_text())\n    {DAMAGES[damage]}\n    assert 0\n"
    )
    done = project.run()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ROLLED BACK" in done.stdout
    assert not project.mark.exists()
    assert not project.is_open
    [guard] = re.findall(r"^guard (\d+)", done.stdout, re.MULTILINE)
    until(lambda: not lives(int(guard)), "the guard goes")

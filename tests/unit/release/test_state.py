"""The state directory: who may use it, who holds it, what it remembers; nothing here needs an engine."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import tempfile
import time
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from cutover.core.change import UNDO_END
from cutover.core.errors import ConfigError, Locked
from cutover.release.history import UNRECORDED_FILE, Record, Unrecorded
from cutover.release.state import REVERT_DEADLINE_S, State, did_revert, lock_owner, who
from cutover.system.files import write_atomically
from tests.crash.place import lives, until
from tests.helpers.containers import container

OWNER = {
    "who": "ana",
    "what": "sha-2 to green",
    "since": "2025-09-04T02:10:00.000Z",
    "pid": 7,
    "host": "web1",
}
RECORD = Record(
    "green", "sha-2", "sha256:22", "h2", "c2", "2.yml", verified=True, by="ana", at="2025-09-04T02:10:00Z"
)
ID = "20250904T021000-7"


# --- laying it out ---------------------------------------------------------------------------------------------------
def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """A new one, with all parents, is 0700 whatever the umask, with the shell files in it; once more changes nothing."""
    state = State(tmp_path / "a" / "b")
    before = os.umask(0)
    try:
        state.prepare()
        state.prepare()
    finally:
        os.umask(before)
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o700
    names = [each.name for each in (resources.files("cutover.release") / "scripts").iterdir()]
    for name in names:
        assert stat.S_IMODE((state.root / name).stat().st_mode) == 0o600


def test_a_changed_shell_file_is_renewed(state: State) -> None:
    """An update of the package brings its shell files along."""
    path = state.root / "revert.sh"
    shipped = path.read_text()
    path.write_text("echo nothing\n")
    state.prepare()
    assert path.read_text() == shipped


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_one_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Who can write it can make us run what they want."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    with pytest.raises(ConfigError, match="not owned by this user alone"):
        State(tmp_path / "state").prepare()
    assert not list((tmp_path / "state").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_one_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Its owner could put another undo there."""
    (tmp_path / "state").mkdir(mode=0o700)
    os.chown(tmp_path / "state", 12345, 12345)
    with pytest.raises(ConfigError, match="not owned by this user alone"):
        State(tmp_path / "state").prepare()


@pytest.mark.parametrize("below", ["state", "a/b/state"])
@pytest.mark.parametrize("worktree", [False, True], ids=["clone", "worktree"])
def test_one_in_a_checkout_is_refused(tmp_path: Path, below: str, worktree: bool) -> None:
    """A `git clean` of a CI would delete an open undo; nothing is left in the checkout."""
    git = tmp_path / ".git"
    git.write_text("gitdir: elsewhere\n") if worktree else git.mkdir()
    with pytest.raises(ConfigError, match="lies in the checkout"):
        State(tmp_path / below).prepare()
    assert [each.name for each in tmp_path.iterdir()] == [".git"]


def test_one_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """Whatever lies in the way is named."""
    (tmp_path / "state").touch()
    with pytest.raises(ConfigError, match=f"state directory {tmp_path}/state: File exists"):
        State(tmp_path / "state").prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_one_that_this_user_may_not_read_is_said() -> None:
    """Not as an empty one: whoever asks what is open would be told that nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        state = State(Path(folder) / "state")
        state.root.mkdir(mode=0o700)
        said = f"state directory {state.root} cannot be read: Permission denied .*; run it as the user who"
        os.seteuid(65534)
        try:
            for ask in (
                state.open_release,
                state.needs_operator,
                state.held,
                state.session_runs,
                state.history,
            ):
                with pytest.raises(ConfigError, match=said):
                    ask()
            with pytest.raises(ConfigError, match=r"green/records.json cannot be read: Permission denied"):
                state.records("green")
            assert state.last_rehearsal() is None
        finally:
            os.seteuid(0)


# --- who releases ----------------------------------------------------------------------------------------------------
def test_the_second_is_turned_away_with_the_first_ones_name(state: State) -> None:
    """Who asks while it is held is told who, what, since when and where, and exit 12."""
    with state.locked(OWNER):
        assert state.session_runs()
        with pytest.raises(Locked) as refused:
            state.acquire({"who": "ben"})
        assert state.owner() == OWNER
    assert str(refused.value) == (
        "ana is releasing sha-2 to green since 2025-09-04T02:10:00.000Z (pid 7 on web1, alive); nothing was changed"
    )
    assert refused.value.exit_code == 12


def test_it_is_free_again_afterwards(state: State) -> None:
    """However the first one ended, the next one gets it."""
    with pytest.raises(ValueError, match="x"), state.locked(OWNER):
        raise ValueError("x")
    assert not state.session_runs()
    with state.locked({"who": "ben"}):
        assert state.owner() == {"who": "ben"}


def test_looking_holds_nobody_up(state: State) -> None:
    """Whoever only looks whether it is held does not hold it; before the first release nobody does."""
    assert not state.session_runs()
    with state.locked(OWNER):
        assert state.session_runs()
        assert state.session_runs()
    assert not state.session_runs()


def test_patience_counts_from_the_start_of_the_session(state: State) -> None:
    """A session that took long to start does not wait again as long: it asks for a moment, and goes."""
    with state.locked(OWNER), pytest.raises(Locked):
        state.acquire({"who": "ben"}, asked_at=time.monotonic() - 3600)


def test_a_child_does_not_inherit_the_lock(state: State) -> None:
    """A command that outlives its session does not hold the release lock: that would be a living session."""
    with state.locked(OWNER):
        assert not os.get_inheritable(_descriptor_of(state.root / "session.lock"))


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_damaged_owner_is_somebody(state: State, text: str) -> None:
    """Who holds it may be unknown; that it is held is not."""
    with state.locked(OWNER):
        (state.root / "owner.json").write_text(text)
        with pytest.raises(Locked, match=r"^somebody is releasing \(unknown\) since \?"):
            state.acquire({"who": "ben"})


# --- the open release ------------------------------------------------------------------------------------------------
def test_an_open_release_is_not_opened_over(state: State) -> None:
    """The undo of a dead session's release is not lost to the next one."""
    state.root.joinpath("open").write_text(f"{ID}\n")
    state.root.joinpath("undo.sh").write_text("its undo\n")
    with pytest.raises(ConfigError, match=rf"release {ID} is open: run `cutover recover` first"):
        state.begin("another", 60.0)
    assert (state.open_release(), (state.root / "undo.sh").read_text()) == (ID, "its undo\n")


def test_a_release_opens_with_a_guard_and_closes_once(state: State) -> None:
    """Between begin and close it is open and guarded; the commit is told whether it was one."""
    assert state.open_release() is None
    with state.locked(OWNER):
        state.begin(ID, 60.0)
        assert state.open_release() == ID
        assert state.guard_lives(ID)
        assert not state.guard_lives("another")
        (state.root / "NEEDS_OPERATOR").write_text(ID)
        assert state.close(ID)
        assert not state.close(ID)
        assert (state.open_release(), state.needs_operator()) == (None, None)
        assert (state.root / f"closed.{ID}").exists()
    pid = int((state.root / "guard.pid").read_text().split()[0])
    until(lambda: not lives(pid), "the guard goes")


def test_a_revert_is_given_up_only_while_its_release_is_open(state: State) -> None:
    """A process that died between the rename of `open` and the removal of the other file leaves nobody a task."""
    (state.root / "NEEDS_OPERATOR").write_text(f"{ID}\n")
    assert state.needs_operator() is None
    (state.root / "open").write_text("another\n")
    assert state.needs_operator() is None
    (state.root / "open").write_text(f"{ID}\n")
    assert state.needs_operator() == ID


def test_what_an_earlier_release_left_running_is_named(state: State) -> None:
    """A daemon that a step started holds the step lock: the next release says so, and does not wait for ever."""
    with (
        state._step_lock(),
        pytest.raises(ConfigError, match=f"still runs: see fuser {state.root}/step.lock"),
        state._step_lock(0.05),
    ):
        pytest.fail("held twice")


@pytest.mark.parametrize("text", ["", "x", "1 2 3", f"1 {ID}", f"99999999 {ID}"])
def test_what_is_no_guard_is_none(state: State, text: str) -> None:
    """A number that another process has by now is no guard of ours."""
    (state.root / "guard.pid").write_text(text)
    assert not state.guard_lives(ID)


def test_a_command_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path) -> None:
    """A space or a quote in the path does not end the word: the revert that is named reverts."""
    state = State(tmp_path / "my app; it's" / "state")
    state.prepare()
    write_atomically(state.root / "undo.sh", f"touch {shlex.quote(str(tmp_path / 'undone'))}\n{UNDO_END}\n")
    (state.root / "open").write_text(f"{ID}\n")
    words = ("sh", str(state.root / "revert.sh"), str(state.root), ID)
    assert shlex.split(state.revert_command) == [*words]
    done = subprocess.run(("sh", "-c", state.revert_command), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"reverted: {ID}\n"), done.stderr
    assert (tmp_path / "undone").exists()


@pytest.mark.parametrize(
    ("of", "left"), [(ID, False), ("20250904T021000-8", True), (f"{ID}1", True), (None, False)]
)
def test_a_revert_forgets_its_own_commit_alone(state: State, of: str | None, left: bool) -> None:
    """What another release left to be written down, whose session died after its commit, is still needed."""
    (state.root / "undo.sh").write_text(f"{UNDO_END}\n")
    (state.root / "open").write_text(f"{ID}\n")
    if of is not None:
        text = Unrecorded(of, "released", {"color": "green", "tag": "sha-2"}, RECORD).as_text()
        (state.root / UNRECORDED_FILE).write_text(text)
    assert did_revert(state.revert(ID), ID)
    assert (state.root / UNRECORDED_FILE).exists() is left


def test_nothing_open_is_reverted_by_nobody(state: State) -> None:
    """Reverting what is not open does nothing, ends well, and does not say that it did it."""
    (state.root / "undo.sh").write_text(f"false\n{UNDO_END}\n")
    done = state.revert(ID)
    assert done.ok
    assert not did_revert(done, ID)
    assert state.revert_command == f"sh {state.root}/revert.sh {state.root} <id>"


# --- what ran and runs -----------------------------------------------------------------------------------------------
def test_the_newest_record_is_last(state: State) -> None:
    """Each color has its own records; a container that is recorded again has one; twenty are kept."""
    assert state.records("green") == []
    for number in range(25):
        state.keep_record(replace(RECORD, container=f"c{number}"))
    state.keep_record(replace(RECORD, container="c10", verified=False))
    found = state.records("green")
    assert len(found) == 20
    assert found[-1] == replace(RECORD, container="c10", verified=False)
    assert [each.container for each in found].count("c10") == 1
    assert state.records("blue") == []


@pytest.mark.parametrize("text", ["", "{", "null", "[1]", '[{"color": "green"}]', '{"a": 1}'])
def test_damaged_records_are_said_and_not_overwritten(state: State, text: str) -> None:
    """What is verified is not guessed."""
    path = state.release_folder("green") / "records.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is damaged"):
        state.keep_record(RECORD)
    assert path.read_text() == text


OURS = f"/var/lib/cutover/recall/releases/{RECORD.color}/{RECORD.file}"


@pytest.mark.parametrize(
    ("facts", "started", "matches"),
    [
        ({"id": RECORD.container}, True, True),
        ({"id": RECORD.container, "image": "sha256:33"}, False, False),
        ({"id": "c3"}, False, False),
        (
            {"id": "c3", "config_files": OURS},
            True,
            True,
        ),  # restored from the recorded file: another hash is no matter
        ({"id": "c3", "config_files": OURS, "image": "sha256:33"}, False, False),
        ({"id": "c3", "config_files": "/srv/docker-compose.yml"}, False, False),
        ({"id": "c3", "config_hash": RECORD.config_hash}, False, True),
    ],
)
def test_a_record_is_of_an_image_and_a_release_file(
    facts: dict[str, str], started: bool, matches: bool
) -> None:
    """Verified is the container of the release or one that was started from its file again, from the same image."""
    labels = {"com.docker.compose.project.config_files": facts.get("config_files", "")}
    found = replace(
        container(id=facts["id"]),
        image=facts.get("image", RECORD.image),
        config_hash=facts.get("config_hash", "another"),
        labels=labels,
    )
    assert (RECORD.started(found), RECORD.matches(found)) == (started, matches)


# --- files -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_file_gets_the_mode_that_was_asked_for(tmp_path: Path, mode: int, umask: int) -> None:
    """Rewriting a user's file does not change who may read it, whatever the umask."""
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", "new", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """What cannot be written leaves the old text, and nothing beside it."""
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "old")]


def _descriptor_of(path: Path) -> int:
    """The descriptor of this process that is *path*."""
    return next(
        int(each.name) for each in Path("/proc/self/fd").iterdir() if each.exists() and each.resolve() == path
    )


def test_a_revert_has_time_left_when_it_gets_the_hand() -> None:
    """Who waits for a revert waits longer than it does for the step lock, by what its undo may need."""
    script = (resources.files("cutover.release") / "scripts" / "revert.sh").read_text(encoding="utf-8")
    longest = float(script.partition("CUTOVER_STEP_LOCK_S:-")[2].partition("}")[0])
    assert longest + 600 <= REVERT_DEADLINE_S


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (b"ana", "ana"),
        (b"jos\xe9", "jos"),  # Latin-1
        ("josé".encode(), "josé"),
        (b"jos\xe9 maria", "jos maria"),
        (b"\x1b[31mana\n::error::x", "ana ::error::x"),
        (b"\xff", f"uid{os.geteuid()}"),
        (b"", f"uid{os.geteuid()}"),
    ],
)
@pytest.mark.parametrize("variable", ["CUTOVER_WHO", "GITHUB_ACTOR", "SUDO_USER", "USER"])
def test_a_name_of_any_bytes_is_one_line_of_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, given: bytes, shown: str
) -> None:
    """Whoever reverts or releases has a name that can be printed, and written down, in UTF-8."""
    for each in ("CUTOVER_WHO", "GITHUB_ACTOR", "SUDO_USER", "USER"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(variable, os.fsdecode(given))
    name = who().rpartition("@")[0]
    assert name.replace("\u200b", "") == shown
    state = State(tmp_path)
    with state.locked(lock_owner("a rollback")):
        assert name in state.lock_line()
        state.journal("reverting", release=ID, who=who())
    assert state.history()[-1]["who"] == who()
    assert who().encode()


@pytest.mark.parametrize("text", ["\udce9", "a\udcff b"])
def test_a_text_that_is_no_utf_8_stops_no_journal(tmp_path: Path, text: str) -> None:
    """A reason may be from anywhere: it is written with a question mark, and the revert goes on."""
    State(tmp_path).journal("reverting", release=ID, why=text)
    why = str(State(tmp_path).history()[-1]["why"])
    assert (len(why), "?" in why) == (len(text), True)


def test_every_lock_names_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that finds the lock taken reads who holds it, since when, and which process on which host."""
    monkeypatch.setenv("CUTOVER_WHO", "ana")
    owner = lock_owner("recover")
    assert str(owner["who"]).startswith("ana@")
    assert owner.keys() == {"who", "what", "since", "pid", "host"}
    package = Path(str(resources.files("cutover")))
    calls = [
        call
        for file in package.rglob("*.py")
        for call in re.findall(r"\.(?:locked|acquire)\((\w+)", file.read_text(encoding="utf-8"))
    ]
    assert set(calls) == {"lock_owner", "owner"}
    assert calls.count("owner") == 1  # `locked` calls `acquire`

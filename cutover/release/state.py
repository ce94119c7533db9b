"""The state directory: session lock, open release, step and revert, records of releases, journal."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shlex
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cutover.core.change import Argv, Change, undo_script
from cutover.core.errors import ConfigError, Locked, OperatorNeeded
from cutover.core.masking import MASK, printable
from cutover.core.text import now
from cutover.release.history import (
    GUARD_SLOTS,
    HOLD_FILE,
    JOURNAL_FILE,
    UNRECORDED_FILE,
    Hold,
    Moment,
    Record,
    Unrecorded,
    read_journal,
    read_records,
    unreadable,
    write_records,
)  # fmt: skip
from cutover.system import process
from cutover.system.container import Container
from cutover.system.files import (
    close_lock,
    flock,
    is_locked,
    make_private,
    sync_folder,
    unsafe_parent,
    write_atomically,
)

if TYPE_CHECKING:
    import psutil

SESSION_LOCK_PATIENCE_S = 0.3
LEAST_PATIENCE_S = 0.03
STEP_LOCK_PATIENCE_S = 60.0
REVERTED_ELSEWHERE = 75
NOT_WRITTEN = 73  # what sysexits.h calls EX_CANTCREAT
KILL_MARGIN_S = 30.0
REVERT_DEADLINE_S = 1500.0  # revert.sh waits 600 s for the step lock; its undo needs time after that
GUARD_START_S = 30.0
LEAST_FILE_SIZE = 16 * 1024 * 1024


def who() -> str:
    """`ana@runner-7`: from `CUTOVER_WHO`, the CI's actor or the login, and the host name."""
    given = (os.environ.get(key, "") for key in ("CUTOVER_WHO", "GITHUB_ACTOR", "SUDO_USER", "USER"))
    # It is written and shown in many places, so it is made one line of plain text here.
    names = (" ".join(printable(each).split()) for each in given)
    return f"{next(filter(None, names), f'uid{os.geteuid()}')}@{socket.gethostname()}"


def lock_owner(what: str) -> dict[str, object]:
    """Owner of the session lock that does *what*; shown to a session that finds the lock taken."""
    return {"who": who(), "what": what, "since": now(), "pid": os.getpid(), "host": socket.gethostname()}


def did_revert(done: process.CompletedCommand, release_id: str) -> bool:
    """Whether this run of revert.sh did the revert; False if the release was already closed or reverted."""
    return done.ok and f"reverted: {release_id}" in done.out.splitlines()


@dataclass(frozen=True, slots=True)
class State:
    """One project's state directory."""

    root: Path

    # --- layout -------------------------------------------------------------------------------------------
    def prepare(self) -> Self:
        """Create the directory (0700) with its shell files; returns itself.

        Raises ConfigError if it lies in a git checkout, cannot be written, or can be changed by other users.
        """
        real, named = self.root.resolve(), f"state directory {self.root}"
        for folder in (real, *real.parents):
            if (folder / ".git").exists():
                why = "a `git clean` would delete an open undo; set state_dir"
                raise ConfigError(f"{named} lies in the checkout {folder}: {why}")
        try:
            make_private(self.root)
            status, unsafe = self.root.stat(), unsafe_parent(self.root)
        except OSError as error:
            raise ConfigError(f"{named}: {error.strerror}") from error
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise ConfigError(f"{named} is not owned by this user alone: chmod 700 and chown it")
        if unsafe is not None:
            why = f"its parent {unsafe} can be written by others, who could replace it"
            way_out = f"chmod go-w {shlex.quote(str(unsafe))}, or set state_dir"
            raise ConfigError(f"{named}: {why}: {way_out}")
        try:
            (self.root / "releases").mkdir(mode=0o700, exist_ok=True)
            self._copy_shell_files()
        except OSError as error:
            raise self.unwritable(error) from error
        return self

    def _copy_shell_files(self) -> None:
        for shipped in (resources.files("cutover.release") / "scripts").iterdir():
            text, path = shipped.read_text(encoding="utf-8"), self.root / shipped.name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_atomically(path, text)

    # --- the session lock --------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def locked(self, owner: Mapping[str, Any]) -> Iterator[None]:
        """Hold the session lock; raises what `acquire` does."""
        handle = self.acquire(owner)
        try:
            yield
        finally:
            close_lock(handle)

    def acquire(self, owner: Mapping[str, Any], asked_at: float | None = None) -> int:
        """Take the session lock; returns its descriptor, closed by `close_lock`.

        Raises Locked if another process still holds it 0.3 s after *asked_at* (monotonic; default: now), the start of
        the session; ConfigError if the disk is full, or if files may not be long enough.
        """
        longest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if 0 <= longest < LEAST_FILE_SIZE:  # no limit is negative
            why = f"files may have at most {longest:,} bytes here (see `ulimit -f`), and a release writes longer ones"
            raise ConfigError(f"{why}: raise the limit; nothing was changed")
        try:
            handle = os.open(self.root / "session.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self.unwritable(error) from error
        begun = time.monotonic()
        deadline = max((asked_at or begun) + SESSION_LOCK_PATIENCE_S, begun + LEAST_PATIENCE_S)
        if not flock(handle, deadline):
            close_lock(handle)
            raise Locked(self.lock_line())
        try:
            write_atomically(self.root / "owner.json", json.dumps(dict(owner)))
        except OSError as error:
            close_lock(handle)
            raise self.unwritable(error) from error
        return handle

    def session_runs(self) -> bool:
        """Whether a running process holds the session lock now."""
        try:
            handle = os.open(self.root / "session.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise unreadable(self.root, error) from error
        return is_locked(handle)

    def owner(self) -> dict[str, Any]:
        """The last owner of the lock, as `lock_owner` wrote it; empty if unknown."""
        try:
            found = json.loads((self.root / "owner.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def lock_line(self) -> str:
        """One line that says which session holds the lock."""
        owner = self.owner()
        who, what = owner.get("who", "somebody"), owner.get("what", "(unknown)")
        where = f"pid {owner.get('pid', '?')} on {owner.get('host', '?')}, alive"
        return f"{who} is releasing {what} since {owner.get('since', '?')} ({where}); nothing was changed"

    # --- the open release ----------------------------------------------------------------------------------------
    def open_release(self) -> str | None:
        """The id of the release that is neither committed nor reverted, None if there is none."""
        return self._read_id("open")

    def needs_operator(self) -> str | None:
        """The id of the open release whose guard gave up the revert, None if there is none.

        The file of a release that is closed was left by a process that died right after it had closed it.
        """
        given_up = self._read_id("NEEDS_OPERATOR")
        return given_up if given_up == self.open_release() else None

    def _read_id(self, name: str) -> str | None:
        try:
            return (self.root / name).read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(self.root, error) from error

    def begin(self, release_id: str, max_s: float) -> None:
        """Open the release with an empty undo script and start its guard, which outlives this process.

        Raises ConfigError, with nothing changed, if another release is open or the disk is full: the undo of either
        would be lost.
        """
        try:
            with self._step_lock():
                left = self.open_release()
                if left is not None:
                    self.require_not_held()
                    raise ConfigError(f"release {left} is open: run `cutover recover` first")
                write_atomically(self.root / "undo.sh", undo_script(()))
                write_atomically(self.root / "open", release_id + "\n")
            self.guard(release_id, max_s)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.close(release_id)
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> ConfigError:
        """The error of a state directory that cannot be written, such as on a full disk, before anything changed."""
        why = f"{error.strerror}; nothing was changed"
        return ConfigError(f"state directory {self.root} cannot be written: {why}")

    def guard(self, release_id: str, max_s: float) -> None:
        """Start the guard in a process session of its own; raises OSError if that fails."""
        # Not our child: with -W error a dropped Popen is an error of the test session, and a kept one leaves a zombie.
        start = ("sh", "-c", '"$@" >/dev/null 2>&1 & echo $!', "sh")
        guard = self._script("guard.sh", release_id, f"{max_s:g}")
        done = process.run((*start, *guard), deadline_s=GUARD_START_S, cwd="/")
        pid = done.out.strip()
        if not done.ok or not pid.isdigit():
            raise OSError(errno.EAGAIN, f"no guard: {done.last_line}")
        write_atomically(self.root / "guard.pid", f"{pid} {release_id}\n")

    def _script(self, name: str, *arguments: str) -> Argv:
        return ("sh", str(self.root / name), str(self.root), *arguments)

    def guard_lives(self, release_id: str) -> bool:
        """Whether a guard of *release_id* is running."""
        try:
            pid, named = (self.root / "guard.pid").read_text(encoding="utf-8").split()
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            words, named = [], ""
        if named == release_id and release_id in words:
            return True
        # The guards of a held release start each other.
        held = self.held()
        return held is not None and held.release == release_id and bool(self.guards(release_id))

    def guards(self, release_id: str) -> list[psutil.Process]:
        """The running guards of *release_id*: one, or two while it is held."""
        import psutil  # reads /proc while it is imported, which takes 30 ms

        wanted = [*self._script("guard.sh", release_id)]
        running = psutil.process_iter(["cmdline"])
        return [each for each in running if (each.info["cmdline"] or [])[: len(wanted)] == wanted]

    def end_guard(self, release_id: str) -> bool:
        """End the guards of *release_id* and the revert that they run, as they are; whether one was running.

        They ignore the signals that ask for an end, because a revert must outlive a terminal.
        """
        import psutil

        guards = self.guards(release_id)
        for guard in guards:  # first all, or one would begin the next try or start the other again
            with contextlib.suppress(psutil.NoSuchProcess):
                guard.suspend()
        for guard in guards:
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in [*guard.children(recursive=True), guard]:  # parents first
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()
        return bool(guards)

    # --- a release that is held --------------------------------------------------------------------------------------
    def hold(self, hold: Hold) -> bool:
        """Keep the release open until its deadline, when its guard reverts it; False if it is no longer open.

        Raises OSError, with the release open as before, if that cannot be written down.
        """
        with self._step_lock(REVERT_DEADLINE_S):
            if self.open_release() != hold.release:
                return False
            for name in GUARD_SLOTS:
                os.close(os.open(self.root / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            write_atomically(self.root / HOLD_FILE, hold.as_text())
            try:
                self.ensure_guard(hold.release)
            except (ConfigError, OSError):
                (self.root / HOLD_FILE).unlink()
                raise
        return True

    def ensure_guard(self, release_id: str) -> bool:
        """Start a guard of the held release, unless one is running; whether it was started. Raises OSError."""
        if self.guard_lives(release_id):
            return False
        self.guard(release_id, 0.0)
        return True

    def held(self) -> Hold | None:
        """The open release if it waits for its confirmation or its deadline, else None."""
        try:
            found = Hold.parse((self.root / HOLD_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise unreadable(self.root, error) from error
        return found if found.release == self.open_release() else None

    def require_not_held(self) -> None:
        """Raise Locked if a release is held and its time is not over: it is confirmed or reverted first."""
        found, now_is = self.held(), Moment.now()
        if found is not None and found.left_s(now_is) > 0:
            raise Locked(f"{found.line(now_is)}: {found.way_out}; nothing was changed")

    def step(self, release_id: str, changes: Sequence[Change], max_s: float) -> process.CompletedCommand:
        """Write the undo of all *changes*, then run the last of them under the step lock.

        The code is 75 (REVERTED_ELSEWHERE) if the release is no longer open, and 73 (NOT_WRITTEN), with nothing done,
        if the undo cannot be written or no guard can be started.
        """
        change = changes[-1]
        try:
            if not self.guard_lives(release_id):
                self.guard(release_id, max_s)
            write_atomically(self.root / "undo.new", undo_script(changes, process.engine_environment()))
        except OSError as error:
            text = f"{change.name}: {self.unwritable(error)}"
            return process.CompletedCommand(change.do, NOT_WRITTEN, "", text)
        argv = self._script("step.sh", release_id, f"{change.budget_s:g}", *change.do)
        return process.run(argv, deadline_s=change.budget_s + KILL_MARGIN_S)

    def revert(self, release_id: str, undo: str = "") -> process.CompletedCommand:
        """Run revert.sh, as the guard, `cutover recover` and an operator do.

        *undo* is the undo script that the session of the release knows: what is lost or damaged on disk is first
        written again.
        """
        if undo:
            with contextlib.suppress(OSError, ConfigError):  # revert.sh refuses what is damaged
                self._write_again(release_id, undo)
        # A Ctrl-C would kill it in the middle, and a release that is held would wait for its deadline.
        with process.handling_signals(signal.SIG_IGN):
            return process.run(self._script("revert.sh", release_id), deadline_s=REVERT_DEADLINE_S)

    def _write_again(self, release_id: str, undo: str) -> None:
        self.prepare()
        with self._step_lock():
            if (self.root / f"closed.{release_id}").exists() or self.open_release() not in {None, release_id}:
                return
            path = self.root / "undo.sh"
            if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != undo:
                write_atomically(path, undo)
            if self.open_release() is None:
                write_atomically(self.root / "open", release_id + "\n")

    def recover(self, release_id: str) -> None:
        """Revert the open release of a session that died; the caller holds the lock. Raises OperatorNeeded."""
        done = self.revert(release_id)
        if not done.ok:
            what = f"release {release_id} could not be reverted: {done.last_line}"
            raise OperatorNeeded(f"{what}; run: {self.revert_command}")
        self.journal("recovered", release=release_id, who=who())

    def close(self, release_id: str, left: Unrecorded | None = None) -> bool:
        """Close the release by one rename under the step lock; False if it is no longer open.

        What is *left* to be written down is on disk before; a full disk does not stop a commit.
        """
        with self._step_lock(REVERT_DEADLINE_S):
            if self.open_release() != release_id:
                return False
            if left is not None:
                self.leave(left)
            (self.root / "open").rename(self.root / f"closed.{release_id}")
            sync_folder(self.root)
        for name in ("NEEDS_OPERATOR", HOLD_FILE):
            (self.root / name).unlink(missing_ok=True)
        return True

    def leave(self, left: Unrecorded) -> bool:
        """Keep on disk what is left to be written down; whether that could be done."""
        try:
            write_atomically(self.root / UNRECORDED_FILE, left.as_text())
        except OSError:
            return False
        return True

    def unrecorded(self) -> Unrecorded | None:
        """What a committed release has left to be written down; None if it is all written."""
        try:
            left = Unrecorded.parse((self.root / UNRECORDED_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return None if self.open_release() == left.release else left

    def all_recorded(self) -> None:
        """Forget what was left to be written down."""
        with contextlib.suppress(OSError):
            (self.root / UNRECORDED_FILE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _step_lock(self, within_s: float = STEP_LOCK_PATIENCE_S) -> Iterator[None]:
        handle = os.open(self.root / "step.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        locked = flock(handle, time.monotonic() + within_s)
        try:
            if not locked:
                command = shlex.join(("fuser", f"{self.root}/step.lock"))
                raise ConfigError(f"a step of a release still runs: see {command}")
            yield
        finally:
            close_lock(handle)

    @property
    def revert_command(self) -> str:
        """The command with which an operator reverts the open release."""
        return f"{shlex.join(self._script('revert.sh'))} {self.open_release() or '<id>'}"

    # --- releases and their records -----------------------------------------------------------------------------
    def release_folder(self, color: str) -> Path:
        """`releases/<color>`, created if it is missing."""
        folder = self.root / "releases" / color
        make_private(folder)
        return folder

    def release_path(self, color: str, name: str) -> Path:
        """The rendered release file *name* of *color*."""
        return self.root / "releases" / color / name

    def records(self, color: str) -> list[Record]:
        """The releases that were committed on *color*, the newest last; raises ConfigError for a damaged file."""
        return read_records(self.release_path(color, "records.json"))

    def keep_record(self, record: Record) -> None:
        """Add *record* as the newest of its color, in place of an older one of the same container."""
        rows = [each for each in self.records(record.color) if each.container != record.container]
        write_records(self.release_folder(record.color) / "records.json", [*rows, record])

    def verified_record(self, color: str, found: Container | None) -> Record | None:
        """The record of a passed gate on this container of *color*, or on one of the same release file and image."""
        if found is None:
            return None
        rows = [row for row in self.records(color) if row.verified and row.started(found)]
        return rows[-1] if rows else None

    # --- the journal ---------------------------------------------------------------------------------------------
    def journal(self, event: str, **facts: Any) -> None:
        """Append one masked line; neither a full disk nor a text that is no UTF-8 stops a revert."""
        shown = MASK.within({"at": now(), "event": event, **facts})
        line = json.dumps(shown, ensure_ascii=False) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with (
            contextlib.suppress(OSError),
            os.fdopen(os.open(self.root / JOURNAL_FILE, flags, 0o600), "ab", 0) as file,
        ):
            file.write(line.encode(errors="replace"))

    def history(self) -> list[dict[str, Any]]:
        """The entries of the journal, oldest first, with the reverts of guards; raises ConfigError."""
        return read_journal(self.root)

    def last_rehearsal(self) -> dict[str, Any] | None:
        """The journal's entry of the last `cutover rehearse`; None if there is none, or if it cannot be read."""
        with contextlib.suppress(ConfigError):
            return next((row for row in reversed(self.history()) if row.get("event") == "rehearsed"), None)
        return None

"""The state directory: who releases, what is open, how it is reverted, and what is proven."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cutover import journal
from cutover.changes import Change, undo_script
from cutover.core.errors import ConfigError, Locked
from cutover.core.masking import MASK
from cutover.core.text import now
from cutover.record import Record
from cutover.system import process
from cutover.system.files import close_lock, flock, sync_folder, write_atomically

__all__ = ["Record", "State", "did_revert", "now", "sync_folder", "write_atomically"]

SHELL_FILES = ("step.sh", "revert.sh", "guard.sh", "restore-service.sh", "ensure-running.sh", "migrate.sh")
PATIENCE_S = 0.3
LEAST_PATIENCE_S = 0.03
STEP_LOCK_PATIENCE_S = 60.0
REVERTED_ELSEWHERE = 75
NOT_WRITTEN = 73  # what sysexits.h calls EX_CANTCREAT
KILL_MARGIN_S = 30.0
REVERT_DEADLINE_S = 1500.0  # revert.sh waits 600 s for the step lock; its undo needs time after that
GUARD_START_S = 30.0


def did_revert(done: process.CompletedCommand, release_id: str) -> bool:
    """Whether this very run of revert.sh reverted the release, and not its session's end or somebody else's run."""
    return done.ok and f"reverted: {release_id}" in done.out.splitlines()


@dataclass(frozen=True, slots=True)
class State:
    """One project's state directory."""

    root: Path

    # --- laying it out -------------------------------------------------------------------------------------------
    def prepare(self) -> None:
        """Create the directory (0700) with its shell files; raises ConfigError for one that others could change."""
        real = self.root.resolve()
        for folder in (real, *real.parents):
            if (folder / ".git").exists():
                why = "a `git clean` would delete an open undo; set state_dir"
                raise ConfigError(f"state directory {self.root} lies in the checkout {folder}: {why}")
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.root.stat()
        except OSError as error:
            raise ConfigError(f"state directory {self.root}: {error.strerror}") from error
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise ConfigError(
                f"state directory {self.root} is not owned by this user alone: chmod 700 and chown it"
            )
        try:
            (self.root / "releases").mkdir(mode=0o700, exist_ok=True)
            self._copy_shell_files()
        except OSError as error:
            raise self._unwritable(error) from error

    def _copy_shell_files(self) -> None:
        shipped = resources.files("cutover") / "shell"
        for name in SHELL_FILES:
            if not (shipped / name).is_file():
                continue
            text = (shipped / name).read_text(encoding="utf-8")
            path = self.root / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_atomically(path, text)

    # --- who releases --------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def locked(self, owner: Mapping[str, Any], asked_at: float | None = None) -> Iterator[None]:
        """Hold the release lock; raises Locked when somebody else holds it for longer than our patience.

        The patience counts from *asked_at* (monotonic), the moment in which the session was started.
        """
        handle = self.acquire(owner, asked_at)
        try:
            yield
        finally:
            close_lock(handle)

    def acquire(self, owner: Mapping[str, Any], asked_at: float | None = None) -> int:
        """The descriptor that is the lock, as long as it is open; raises Locked, or ConfigError on a full disk."""
        try:
            handle = os.open(self.root / "session.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        deadline = max((asked_at or time.monotonic()) + PATIENCE_S, time.monotonic() + LEAST_PATIENCE_S)
        if not flock(handle, deadline):
            close_lock(handle)
            raise Locked(self.told())
        try:
            write_atomically(self.root / "owner.json", json.dumps(dict(owner)))
        except OSError as error:
            close_lock(handle)
            raise self._unwritable(error) from error
        return handle

    def is_held(self) -> bool:
        """Whether some living session holds the release lock now."""
        try:
            handle = os.open(self.root / "session.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False

    def owner(self) -> dict[str, Any]:
        """Who held the lock last: who, since, pid, host, what."""
        try:
            found = json.loads((self.root / "owner.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def told(self) -> str:
        """One line on who is releasing."""
        owner = self.owner()
        who, what = owner.get("who", "somebody"), owner.get("what", "(unknown)")
        where = f"pid {owner.get('pid', '?')} on {owner.get('host', '?')}, alive"
        return f"{who} is releasing {what} since {owner.get('since', '?')} ({where}); nothing was changed"

    # --- the open release ----------------------------------------------------------------------------------------
    def open_release(self) -> str | None:
        """The id of the release that changed something and is neither committed nor reverted."""
        try:
            return (self.root / "open").read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def begin(self, release_id: str, max_s: float) -> None:
        """Open the release, with nothing to undo yet, and start the guard that outlives this session.

        Raises ConfigError, with nothing changed, while another one is open, for its undo would be lost, and on a
        full disk, for ours could not be written.
        """
        try:
            with self._step_lock():
                left = self.open_release()
                if left is not None:
                    raise ConfigError(f"release {left} is open: run `cutover recover` first")
                write_atomically(self.root / "undo.sh", undo_script(()))
                write_atomically(self.root / "open", release_id + "\n")
            self.guard(release_id, max_s)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.close(release_id)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"state directory {self.root} cannot be written: {error.strerror}; nothing was changed"
        )

    def guard(self, release_id: str, max_s: float) -> None:
        """Start the guard, a child of nobody's in a session of its own; raises OSError when that cannot be done."""
        # Not our child: a strict gate would call a handle that is dropped an error, and a kept one leaves a zombie.
        start = ("sh", "-c", '"$@" >/dev/null 2>&1 & echo $!', "sh")
        words = ("sh", str(self.root / "guard.sh"), str(self.root), release_id, f"{max_s:g}")
        done = process.run((*start, *words), deadline_s=GUARD_START_S, cwd="/")
        pid = done.out.strip()
        if not done.ok or not pid.isdigit():
            raise OSError(errno.EAGAIN, f"no guard: {done.last_line}")
        write_atomically(self.root / "guard.pid", f"{pid} {release_id}\n")

    def guard_lives(self, release_id: str) -> bool:
        """Whether the guard of *release_id* is running."""
        try:
            pid, named = (self.root / "guard.pid").read_text(encoding="utf-8").split()
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            return False
        return named == release_id and release_id in words

    def step(self, release_id: str, changes: Sequence[Change], max_s: float) -> process.CompletedCommand:
        """Run the last of *changes* under the step lock, the undo of all of them written before it.

        Answers with 75 when somebody else has reverted the release meanwhile. Where the undo cannot be written,
        or no guard be started, nothing is done and the answer says so.
        """
        change = changes[-1]
        try:
            if not self.guard_lives(release_id):
                self.guard(release_id, max_s)
            write_atomically(self.root / "undo.new", undo_script(changes))
        except OSError as error:
            return process.CompletedCommand(
                change.do, NOT_WRITTEN, "", f"{change.name}: {self._unwritable(error)}"
            )
        argv = (
            "sh",
            str(self.root / "step.sh"),
            str(self.root),
            release_id,
            f"{change.budget_s:g}",
            *change.do,
        )
        return process.run(argv, deadline_s=change.budget_s + KILL_MARGIN_S)

    def revert(self, release_id: str) -> process.CompletedCommand:
        """Run the one script that session, guard, `recover` and a person call alike."""
        argv = ("sh", str(self.root / "revert.sh"), str(self.root), release_id)
        return process.run(argv, deadline_s=REVERT_DEADLINE_S)

    def close(self, release_id: str) -> bool:
        """Commit: one rename under the step lock; False when somebody else has closed it before."""
        with self._step_lock(REVERT_DEADLINE_S):
            if self.open_release() != release_id:
                return False
            (self.root / "open").rename(self.root / f"closed.{release_id}")
            sync_folder(self.root)
        (self.root / "NEEDS_OPERATOR").unlink(missing_ok=True)
        return True

    @contextlib.contextmanager
    def _step_lock(self, within_s: float = STEP_LOCK_PATIENCE_S) -> Iterator[None]:
        """Hold the step lock; raises ConfigError when what an earlier step has left behind does not let it go."""
        handle = os.open(self.root / "step.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not flock(handle, time.monotonic() + within_s):
                raise ConfigError(f"a step of a release still runs: see fuser {self.root}/step.lock")
            yield
        finally:
            close_lock(handle)

    def needs_operator(self) -> str | None:
        """The id of a release whose revert was given up, None in peace."""
        try:
            return (self.root / "NEEDS_OPERATOR").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None

    @property
    def revert_command(self) -> str:
        """What a person runs."""
        return f"sh {self.root}/revert.sh {self.root} {self.open_release() or '<id>'}"

    # --- what ran and runs ---------------------------------------------------------------------------------------
    def release_folder(self, color: str) -> Path:
        """`releases/<color>`, made if need be."""
        folder = self.root / "releases" / color
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def records(self, color: str) -> list[Record]:
        """The releases that were committed on *color*, the newest last."""
        path = self.root / "releases" / color / "records.json"
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            return [Record(**row) for row in rows]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path} is damaged: {error}") from error

    def keep_record(self, record: Record) -> None:
        """Remember *record* as the newest of its color."""
        rows = [asdict(each) for each in self.records(record.color) if each.container != record.container]
        write_atomically(
            self.release_folder(record.color) / "records.json",
            json.dumps([*rows, asdict(record)][-20:], indent=1),
        )

    # --- the journal ---------------------------------------------------------------------------------------------
    def journal(self, event: str, **facts: Any) -> None:
        """Append one masked line; a full disk is no reason to stop a revert, so it is only not written."""
        shown = MASK.within({"at": now(), "event": event, **facts})
        line = json.dumps(shown, ensure_ascii=False) + "\n"
        with contextlib.suppress(OSError):
            handle = os.open(
                self.root / "journal.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                os.write(handle, line.encode())
            finally:
                os.close(handle)

    def history(self) -> list[dict[str, Any]]:
        """What was done here, when and by whom, as the journal and the guard's log have it."""
        return journal.whole(self.root)

"""The data that both colours share: snapshots of it, proved by restoring them, and the schema's migration."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cutover.changes import Change
from cutover.core.config import Settings
from cutover.core.errors import CutoverError, Failed, Locked, UsageProblem
from cutover.core.verdict import Outcome, Verdict, no, yes
from cutover.data import files
from cutover.data.compare import QUESTION, compare
from cutover.data.files import Taken
from cutover.data.location import Location, PostgresUrl, SqliteFile, locate
from cutover.data.opening import way
from cutover.data.store import Store
from cutover.system.compose import Compose, Rendered, render

__all__ = ["Data", "Taken", "of"]
SCRATCH_ENV = "scratch.env"


@dataclass(slots=True)
class Data:
    """One service's database, as the release *rendered* names it, and its snapshots below *state_dir*."""

    settings: Settings
    rendered: Rendered
    state_dir: Path
    scratch: str = ""
    """The copy that was restored and compared, and is still there."""
    _store: Store | None = field(default=None, repr=False)
    _busy: int | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """Where snapshots are kept."""
        return self.state_dir / "snapshots"

    @property
    def location(self) -> Location | None:
        """Where the release's environment says that the data lives."""
        colour = self.settings.colours.get(self.rendered.colour)
        where = str(colour.env_file if colour else self.rendered.colour)
        return locate(self.settings.database, self.rendered.environment(self.settings.service), where)

    def available(self) -> bool:
        """Whether there is a database to take a snapshot of; raises UsageProblem for one of unknown kind."""
        location = self.location
        if isinstance(location, SqliteFile):
            from cutover.data.sqlite import never_made

            # Before the very first release no container can be asked, and the volume cannot be seen.
            return not never_made(self.rendered, self.settings.service, location.path) and self.store.exists()
        return location is not None

    @property
    def store(self) -> Store:
        """The database behind the location; raises UsageProblem where there is none or no way leads there."""
        if self._store is None:
            self._store = way(self.settings, self.rendered, self.location, self.folder)
        return self._store

    def snapshot_change(self) -> Change:
        """The change to apply before `take`: its undo removes what a session that dies would leave."""
        from cutover.changes.snapshot import snapshot
        from cutover.data.rehearsal import names

        scratch = self.store.scratch_name(f"{os.getpid()}")
        drop, needs = self.store.drop_words(scratch, self.folder / SCRATCH_ENV), self.folder / SCRATCH_ENV
        text = f"{self.store.name}, restored beside itself"
        return snapshot(self.folder, text, names(self.settings.project), drop, needs)

    # --- snapshots -----------------------------------------------------------------------------------------------
    def take(self) -> Taken:
        """Write a snapshot, described by a JSON beside it; raises UsageProblem, Failed or Locked."""
        self._hold()
        store, begun = self.store, time.monotonic()
        files.need_room(self.folder, store.size(), store.name)
        at = f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%f}"[:-3] + "Z"
        path = self.folder / f"{at}-{_safe(store.name)}{store.suffix}"
        size, checksum, held = store.dump(path, self.settings.snapshot.budget)
        seconds = round(time.monotonic() - begun, 3)
        taken = Taken(path, store.kind, store.name, at, size, checksum, seconds, held)
        files.describe(taken)
        return taken

    def prove(self, taken: Taken) -> Verdict:
        """Restore *taken* into a scratch database and compare; after a yes the scratch stays for the rehearsal."""
        self._hold()
        self.drop_scratch()
        self.store.need_room()
        self._announce()
        verdict = self._restored(taken, self.store.scratch_name(f"{os.getpid()}"))
        if verdict.outcome is Outcome.NO:
            self.drop_scratch()
        return verdict

    def _restored(self, taken: Taken, name: str) -> Verdict:
        begun = time.monotonic()
        if files.sha256_of(taken.path) != taken.sha256:
            return no(
                QUESTION,
                f"{taken.name} is not the file that was written: its checksum differs",
                file=str(taken.path),
            )
        try:
            self.store.restore(taken.path, name, self.settings.snapshot.budget)
        except Failed as error:
            return no(QUESTION, f"{taken.name} cannot be restored: {error}", file=str(taken.path))
        seconds = time.monotonic() - begun
        self.scratch = name
        verdict = compare(taken.contents, self.store.contents(name))
        if not verdict.ok:
            return verdict
        files.proved(taken, seconds)
        text = (
            f"{taken.database} {files.megabytes(taken.size)}, {verdict.reason}; restore takes {seconds:.1f} s"
        )
        return yes(
            QUESTION,
            text,
            **verdict.evidence,
            file=str(taken.path),
            sha256=taken.sha256,
            restore_s=round(seconds, 3),
        )

    def _announce(self) -> None:
        """Leave, for the undo script, what it needs to drop the scratch database: a private file, no argument."""
        lines = [f"{key}={value}\n" for key, value in self.store.environment().items()]
        with files.private(self.folder / SCRATCH_ENV) as out:
            out.write("".join(lines).encode())

    def restore_line(self, taken: Taken) -> str:
        """The one command with which a person puts *taken* back."""
        words = ("cutover", "restore", "--cutover-config", str(self.settings.source), taken.name, "--yes")
        return shlex.join(words)

    def kept(self) -> list[Taken]:
        """The snapshots that are kept, the newest first."""
        return files.kept(self.folder)

    def rotate(self) -> list[Taken]:
        """Delete what is beyond `[snapshot] keep`, never the last proved one: what was deleted."""
        self._hold()
        gone = files.doomed(self.kept(), self.settings.snapshot.keep)
        for each in gone:
            files.delete(each)
        return gone

    def rehearse(self, new: Rendered, live: Rendered | None, live_image: str = "") -> list[Verdict]:
        """Whether *new* upgrades the scratch and *live*, if any, run from *live_image*, then passes its gate on it.

        The first no ends it, and nothing was changed: the old release does not live with the new schema.
        """
        from cutover.data.rehearsal import rehearse

        return rehearse(self, new, live, live_image)

    def drop_scratch(self) -> None:
        """Remove the scratch copies of ours, those of a session that died too."""
        self._hold()
        for name in self.store.scratches():
            self.store.drop(name)
        self.scratch = ""
        (self.folder / SCRATCH_ENV).unlink(missing_ok=True)

    def head(self) -> str:
        """The revision that the schema is at now; empty where no table says one."""
        return self.store.head()

    def migrate_change(self, new: Rendered, release_file: Path) -> Change:
        """The change that runs `[migrate] command` of *new*, whose rendered form is *release_file*."""
        from cutover.changes.migrate import container_name, migrate

        if self.settings.migrate is None:
            raise UsageProblem(f"{self.settings.source} has no [migrate] command")
        wait_s = self.settings.migrate.lock_timeout
        lock: tuple[str, ...] = ()
        if isinstance(self.location, PostgresUrl):
            package = Path(__file__).parents[2]
            python = ("env", f"PYTHONPATH={package}", sys.executable, "-m", "cutover.data.locked")
            lock = (*python, str(self.settings.source), str(release_file), f"{wait_s:g}")
        compose = Compose(new.project, release_file)
        name = container_name(self.settings.project)
        return migrate(
            self.state_dir, compose, self.settings.migrate, name, lock=lock, options=self.options(new)
        )

    def options(self, new: Rendered) -> str:
        """`PGOPTIONS` for a migration: it gives up on a lock sooner than it holds everybody up."""
        migrate = self.settings.migrate
        if migrate is None or not isinstance(self.location, PostgresUrl):
            return ""
        if "PGOPTIONS" in new.environment(migrate.service):
            return ""  # the release brings its own
        return f"-c lock_timeout={round(migrate.lock_timeout * 1000)}"

    # --- one at a time -------------------------------------------------------------------------------------------
    def _hold(self) -> None:
        """Be the only one that takes or restores; raises Locked. Held until this process ends or `close`."""
        if self._busy is not None:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.folder / "busy", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageProblem(f"{self.folder}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise Locked(
                f"another snapshot or restore is running in {self.folder}; nothing was changed"
            ) from None
        self._busy = handle
        for left in self.folder.glob(f"*{files.PARTIAL}"):  # of a session that died: we are the only one now
            left.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove a scratch copy that is still there, and let others take and restore; never raises."""
        if self.scratch:
            with contextlib.suppress(CutoverError):  # the next snapshot removes it
                self.drop_scratch()
        if self._busy is not None:
            os.close(self._busy)
            self._busy = None


def of(settings: Settings) -> Data:
    """The data of the service of *settings*, as the first colour that has an env file names it."""
    colours = [colour for colour, each in settings.colours.items() if each.env_file.is_file()]
    if not colours:
        first = next(iter(settings.colours.values()))
        raise UsageProblem(f"{first.env_file}: no such file (colours.*.env_file in {settings.source})")
    return Data(settings, render(settings, colours[0]), settings.state)


def _safe(name: str) -> str:
    """*name* as part of a file's name."""
    return "".join(
        sign if sign.isalnum() or sign in "._-" else "_" for sign in name.rsplit("/", 1)[-1]
    ).lstrip(".")

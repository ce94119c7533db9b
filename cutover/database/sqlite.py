"""SQLite on a volume that both colors mount: read on this host if possible, else inside the service's container."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from cutover.core.errors import ConfigError, Failed
from cutover.core.masking import MASK
from cutover.database import sqlite_inside
from cutover.database.snapshot import (
    CHUNK_BYTES,
    PARTIAL,
    QUERY_TIMEOUT_S,
    DatabaseContents,
    Dump,
    Dumped,
    SnapshotFile,
    end_process,
    open_private,
    rename_durably,
    sha256_of,
    start_process,
    stream_to_file,
)
from cutover.system import docker, process
from cutover.system.compose import Rendered
from cutover.system.files import make_private
from cutover.system.process import Argv

SCRATCH_PREFIX = "scratch-"
END_MARGIN_S = 10.0


@dataclass(frozen=True, slots=True)
class SqliteStore:
    """One SQLite file: dump, restore as a scratch copy beside the snapshots, read."""

    path: str
    """Path inside the service's container."""
    file: Path | None
    """Path on this host; None if the volume cannot be read and written from here."""
    container: str
    """A running container that mounts the file; used if *file* is None."""
    folder: Path
    """Folder of the scratch copies."""
    schema_table: str
    kind: str = "sqlite"
    suffix: str = ".sqlite"

    @property
    def name(self) -> str:
        """File name."""
        return PurePosixPath(self.path).name

    def exists(self) -> bool:
        """Whether the file exists."""
        return self.file.is_file() if self.file else self._exec("test", "-f", self.path).ok

    def size(self) -> int:
        """Bytes of the file; raises ConfigError if it cannot be read."""
        if self.file:
            return self.file.stat().st_size
        done = self._exec("stat", "-c", "%s", self.path)
        if not done.ok:
            raise ConfigError(f"{self.path} in the service's container: {done.last_line}")
        return int(done.out)

    def head(self, name: str | None = None) -> str:
        """Schema revision; empty if no table records one."""
        return self.contents(name).head

    def contents(self, name: str | None = None) -> DatabaseContents:
        """Contents of the database, or of the scratch copy *name*; raises Failed if SQLite cannot read it."""
        if name is None and self.file is None:
            make_private(self.folder)  # not made before the first snapshot
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                return self.dump(Path(folder) / "now", QUERY_TIMEOUT_S)[2]
        file = self.file if name is None and self.file else self._scratch_file(name or "")
        try:
            with closing(sqlite_inside.connect(str(file))) as connection:
                connection.execute("begin")
                values = sqlite_inside.read_contents(connection, self.schema_table)
        except sqlite3.Error as error:
            raise Failed(f"{file.name}: {error}") from error
        return DatabaseContents.from_json(values)

    def dump(self, path: Path, budget_s: float) -> Dumped:
        """Write a copy to *path*; returns size, SHA-256 and the contents at that moment; raises Failed."""
        if self.file is None:
            argv = self._script_argv("dump", self.schema_table)
            size, checksum, output = stream_to_file(argv, {}, path, budget_s)
            return size, checksum, DatabaseContents.from_json(json.loads(output.splitlines()[-1]))
        return self._copy(str(self.file), path, "mode=rw")

    def _copy(self, file: str, path: Path, options: str) -> Dumped:
        draft = path.with_name(path.name + PARTIAL)
        try:
            with open_private(draft):
                values = sqlite_inside.copy_database(file, str(draft), self.schema_table, options)
            rename_durably(draft, path)
        except (sqlite3.Error, OSError) as error:
            raise Failed(f"{self.path}: {error}") from error
        finally:
            draft.unlink(missing_ok=True)
        return path.stat().st_size, sha256_of(path), DatabaseContents.from_json(values)

    def scratch_name(self, suffix: str) -> str:
        """Name of a scratch copy: a folder beside the snapshots."""
        return SCRATCH_PREFIX + suffix

    def restore(self, path: Path, name: str, budget_s: float) -> None:
        """Copy a snapshot to where a container can mount it and check its integrity; raises Failed."""
        del budget_s
        target = self._scratch_file(name)
        target.parent.mkdir(mode=0o700)
        shutil.copyfile(path, target)
        result = sqlite_inside.check_integrity(str(target))
        if result != "ok":
            raise Failed(f"SQLite's integrity check: {result}")
        # The service's user, whose id we do not know, opens it; the folder above (0700) keeps other users out.
        target.chmod(0o666)
        target.parent.chmod(0o777)

    def drop(self, name: str) -> None:
        """Remove a scratch copy."""
        if not name.startswith(SCRATCH_PREFIX):
            raise ValueError(f"{name} was not created by cutover")
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def scratches(self) -> list[str]:
        """Names of the scratch copies that exist."""
        return sorted(path.name for path in self.folder.glob(f"{SCRATCH_PREFIX}*"))

    def replace_by(self, snapshot: SnapshotFile, keep: Callable[[Dump], object], budget_s: float) -> None:
        """Replace the contents of the live database by *snapshot*, in one transaction; raises Failed.

        *keep* is called with a function that dumps what is replaced, while nobody else can write; if it raises,
        nothing is changed.
        """
        if self.file is None:
            self._replace_inside(snapshot, keep, budget_s)
            return
        file = str(self.file)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            # The copy is opened for writing, a snapshot never is.
            copy = shutil.copyfile(snapshot.path, Path(folder) / "copy")
            try:
                sqlite_inside.replace_contents(
                    file, str(copy), lambda options: keep(lambda path, _: self._copy(file, path, options))
                )
            except (sqlite3.Error, TimeoutError, ValueError) as error:
                raise Failed(f"{self.path}: {error}") from error

    def _replace_inside(
        self, snapshot: SnapshotFile, keep: Callable[[Dump], object], budget_s: float
    ) -> None:
        values = (str(snapshot.size), snapshot.sha256, f"{budget_s:g}")
        argv = self._script_argv("write", self.schema_table, *values)
        with snapshot.path.open("rb") as file, tempfile.TemporaryFile() as output:
            script = start_process(argv, {}, subprocess.PIPE, subprocess.PIPE, output)
            stdin, stdout = cast("IO[bytes]", script.stdin), cast("IO[bytes]", script.stdout)
            # The script has the same limit, and says what it was doing.
            timer = threading.Timer(budget_s + END_MARGIN_S, process.kill_group, (script,))
            timer.daemon = True
            timer.start()
            try:
                with contextlib.suppress(BrokenPipeError):  # the script has ended: its output tells why
                    shutil.copyfileobj(file, stdin)
                    stdin.flush()
                    if header := stdout.readline():
                        keep(lambda path, _: _receive(stdout, json.loads(header), path))
                        stdin.write(sqlite_inside.COMMIT)
                    stdin.close()
                script.wait()
            finally:
                timer.cancel()
                end_process(script)
                stdout.close()
                with contextlib.suppress(BrokenPipeError):
                    stdin.close()
            output.seek(0)
            text = MASK(output.read().decode(errors="replace"))
        done = process.CompletedCommand(argv, script.returncode, "", text)
        if not done.ok:
            raise Failed(f"{self.path}: {done.last_line}")

    def _scratch_file(self, name: str) -> Path:
        return self.folder / name / self.name

    def _script_argv(self, command: str, *arguments: str) -> Argv:
        script = Path(sqlite_inside.__file__).read_text(encoding="utf-8")
        python = ("docker", "exec", "--interactive", self.container, "python3", "-c", script)
        return (*python, command, self.path, *arguments)

    def _exec(self, *argv: str) -> process.CompletedCommand:
        return process.run(("docker", "exec", self.container, *argv), deadline_s=QUERY_TIMEOUT_S, mask=False)


def _receive(source: IO[bytes], header: Mapping[str, Any], path: Path) -> Dumped:
    """Write to *path* what the script sends after *header*; raises Failed or ConfigError."""
    draft, digest, size = path.with_name(path.name + PARTIAL), hashlib.sha256(), int(header["size"])
    try:
        with open_private(draft) as out:
            while left := size - out.tell():
                if not (chunk := source.read(min(left, CHUNK_BYTES))):
                    raise Failed("the copy of the present contents is not complete; nothing was changed")
                out.write(chunk)
                digest.update(chunk)
        rename_durably(draft, path)
    except OSError as error:
        raise ConfigError(f"{draft}: {error.strerror}; nothing was changed") from error
    finally:
        draft.unlink(missing_ok=True)
    return size, digest.hexdigest(), DatabaseContents.from_json(header["contents"])


def open_sqlite(rendered: Rendered, service: str, path: str, folder: Path, schema_table: str) -> SqliteStore:
    """Store of *path* in the container of *service*; raises ConfigError if the file cannot be reached."""
    mount = _mount_of(rendered, service, path)
    file = _path_on_host(rendered, mount, path)
    if file is not None and os.access(file.parent, os.R_OK | os.W_OK | os.X_OK):
        return SqliteStore(path, file, "", folder, schema_table)
    container = _container_with(rendered, service, mount)
    problem = f"{path} of {rendered.color}: its volume cannot be read from here, and"
    if not container:
        raise ConfigError(f"{problem} no container runs that mounts it")
    python = ("docker", "exec", container, "python3", "-c", "import sqlite3")
    if not process.run(python, deadline_s=QUERY_TIMEOUT_S).ok:
        raise ConfigError(f"{problem} the container that mounts it has no python3 with sqlite3")
    return SqliteStore(path, None, container, folder, schema_table)


def volume_is_missing(rendered: Rendered, service: str, path: str) -> bool:
    """Whether *path* is in a named volume that Docker has not created: there is no data yet."""
    volume = _volume_name(rendered, _mount_of(rendered, service, path))
    if not volume:
        return False
    done = process.run(("docker", "volume", "inspect", volume), deadline_s=QUERY_TIMEOUT_S, mask=False)
    return not done.ok and "no such volume" in done.err.lower()


def _mount_of(rendered: Rendered, service: str, path: str) -> dict[str, Any]:
    """The innermost mount that contains *path*; empty if there is none."""
    mounts: list[dict[str, Any]] = list(rendered.service(service).get("volumes") or ())
    matching = [each for each in mounts if PurePosixPath(path).is_relative_to(each.get("target", "?"))]
    return max(matching, key=lambda each: len(each["target"]), default={})


def _volume_name(rendered: Rendered, mount: dict[str, Any]) -> str:
    """Docker's name of a named volume; empty for any other mount."""
    if mount.get("type") != "volume":
        return ""
    source = mount.get("source", "")
    return str(((rendered.model.get("volumes") or {}).get(source) or {}).get("name", source))


def _path_on_host(rendered: Rendered, mount: dict[str, Any], path: str) -> Path | None:
    source, volume = mount.get("source", ""), _volume_name(rendered, mount)
    if volume:
        argv = ("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume)
        done = process.run(argv, deadline_s=QUERY_TIMEOUT_S, mask=False)
        source = done.out.strip() if done.ok else ""
    return Path(source) / PurePosixPath(path).relative_to(mount["target"]) if source else None


def _container_with(rendered: Rendered, service: str, mount: dict[str, Any]) -> str:
    """ID of a running container of *service* with *mount*, of this color or the other; empty if there is none."""
    found = docker.the_container(rendered.project, service)
    if found is not None and found.running:
        return found.id
    source = _volume_name(rendered, mount) or mount.get("source", "")
    if not source:
        return ""
    filters = ("--filter", f"volume={source}", "--filter", f"label=com.docker.compose.service={service}")
    argv = ("docker", "ps", "--no-trunc", "--quiet", "--filter", "status=running", *filters)
    return next(iter(process.run(argv, deadline_s=QUERY_TIMEOUT_S).out.split()), "")

"""A SQLite database on a volume that both colours mount: read here where we may, else inside the container."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cutover.core.errors import Failed, UsageProblem
from cutover.data import contents, files, inside
from cutover.data.contents import Contents
from cutover.system import docker, process
from cutover.system.compose import Rendered

SCRATCH = "scratch-"


@dataclass(frozen=True, slots=True)
class Sqlite:
    """One database file: where the service sees it, and how we reach it."""

    path: str
    """Inside the service's container."""
    file: Path | None
    """Here, when the volume can be read and written from here."""
    container: str
    """A running container that mounts it, when it cannot."""
    folder: Path
    """Where scratch copies are made."""
    schema_table: str
    kind: str = "sqlite"
    suffix: str = ".sqlite"

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePosixPath(self.path).name

    def exists(self) -> bool:
        """Whether there is such a file yet."""
        return self.file.is_file() if self.file else self._inside("test", "-f", self.path).ok

    def size(self) -> int:
        """The file's bytes."""
        if self.file:
            return self.file.stat().st_size
        done = self._inside("stat", "-c", "%s", self.path)
        if not done.ok:
            raise UsageProblem(f"{self.path} in the service's container: {done.last_line}")
        return int(done.out)

    def head(self, name: str | None = None) -> str:
        """The schema's revision."""
        return self.contents(name).head

    def contents(self, name: str | None = None) -> Contents:
        """What it, or the scratch copy *name*, holds."""
        if name is None and self.file is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # a state without a snapshot has none
            with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                return self.dump(Path(folder) / "now", files.QUICK_S)[2]
        return read(self.file if name is None and self.file else self._copy(name or ""), self.schema_table)

    # --- dumping and restoring -----------------------------------------------------------------------------------
    def dump(self, path: Path, budget_s: float) -> tuple[int, str, Contents]:
        """Write a copy by SQLite's own backup API: its size, checksum, and what was in it in that moment."""
        if self.file is None:
            size, checksum, told = files.stream(self._words("dump", self.schema_table), {}, path, budget_s)
            return size, checksum, contents.from_json(json.loads(told.splitlines()[-1]))
        draft = path.with_name(path.name + files.PARTIAL)
        try:
            with files.private(draft):
                held = inside.dump(str(self.file), str(draft), self.schema_table)
            files.settle(draft, path)
        except (sqlite3.Error, OSError) as error:
            raise Failed(f"{self.path}: {error}") from error
        finally:
            draft.unlink(missing_ok=True)
        return path.stat().st_size, files.sha256_of(path), contents.from_json(held)

    def scratch_name(self, tail: str) -> str:
        """The name of a scratch copy's folder."""
        return SCRATCH + tail

    def need_room(self) -> None:
        """The scratch copy lies beside the snapshots, whose room was asked for already."""

    def restore(self, path: Path, name: str, budget_s: float) -> None:
        """Copy a snapshot to where a container could mount it, and have SQLite check each page; raises Failed."""
        del budget_s
        target = self._copy(name)
        target.parent.mkdir(mode=0o700)
        shutil.copyfile(path, target)
        said = inside.check(str(target))
        if said != "ok":
            raise Failed(f"SQLite's integrity check: {said}")
        # Only the service's own user will open it, whoever that is; the folder above lets nobody else in.
        target.chmod(0o666)
        target.parent.chmod(0o777)

    def mount(self, name: str) -> tuple[Path, str]:
        """The folder that holds the copy *name*, and where the service mounts it."""
        return self.folder / name, str(PurePosixPath(self.path).parent)

    def drop(self, name: str) -> None:
        """Remove a scratch copy."""
        if not name.startswith(SCRATCH):
            raise ValueError(f"{name} is not a copy of ours")
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def drop_words(self, name: str, env_file: Path) -> tuple[str, ...]:
        """Nothing: scratch copies lie beside the snapshots, and are removed with them."""
        del name, env_file
        return ()

    def environment(self) -> dict[str, str]:
        """Nothing."""
        return {}

    def scratches(self) -> list[str]:
        """The scratch copies that are there."""
        return sorted(path.name for path in self.folder.glob(f"{SCRATCH}*"))

    def put(self, path: Path, budget_s: float) -> None:
        """Replace what the live database holds by the snapshot, in one transaction; raises Failed."""
        if self.file is None:
            done = files.feed(self._words("write"), {}, path, budget_s)
            if not done.ok:
                raise Failed(f"{self.path}: {done.last_line}")
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            copy = shutil.copyfile(
                path, Path(folder) / "copy"
            )  # it is opened for writing, a snapshot never is
            try:
                inside.put(str(copy), str(self.file))
            except (sqlite3.Error, TimeoutError) as error:
                raise Failed(f"{self.path}: {error}") from error

    # --- ways ----------------------------------------------------------------------------------------------------
    def _copy(self, name: str) -> Path:
        return self.folder / name / self.name

    def _words(self, command: str, *rest: str) -> tuple[str, ...]:
        script = Path(inside.__file__).read_text(encoding="utf-8")
        return (
            "docker",
            "exec",
            "--interactive",
            self.container,
            "python3",
            "-c",
            script,
            command,
            self.path,
            *rest,
        )

    def _inside(self, *words: str) -> process.Done:
        return process.run(("docker", "exec", self.container, *words), deadline_s=files.QUICK_S, mask=False)


def read(file: Path, schema_table: str) -> Contents:
    """What a database file holds; raises Failed for one that SQLite cannot read."""
    try:
        with closing(inside.connect(str(file))) as connection:
            connection.execute("begin")
            return contents.from_json(inside.read(connection, schema_table))
    except sqlite3.Error as error:
        raise Failed(f"{file.name}: {error}") from error


def find(rendered: Rendered, service: str, path: str, folder: Path, schema_table: str) -> Sqlite:
    """The way to *path* of *service*: its volume from here, or a container that runs; raises UsageProblem."""
    file = here(rendered, service, path)
    if file is not None and os.access(file.parent, os.R_OK | os.W_OK | os.X_OK):
        return Sqlite(path, file, "", folder, schema_table)
    container = _reader(rendered, service, path)
    blocked = f"{path} of {rendered.colour}: its volume cannot be read from here, and"
    if not container:
        raise UsageProblem(f"{blocked} no container runs that mounts it")
    python = ("docker", "exec", container, "python3", "-c", "import sqlite3")
    if not process.run(python, deadline_s=files.QUICK_S).ok:
        raise UsageProblem(f"{blocked} the container that mounts it has no python3 with sqlite3")
    return Sqlite(path, None, container, folder, schema_table)


def _reader(rendered: Rendered, service: str, path: str) -> str:
    """The id of a running container that has *path*: the colour's own, else the other colour's; empty if none."""
    found = docker.the_container(rendered.project, service)
    if found is not None and found.running:
        return found.id
    mount = _mount(rendered, service, path)
    source = _volume(rendered, mount) or mount.get("source", "")
    if not source:
        return ""
    wanted = ("--filter", f"volume={source}", "--filter", f"label=com.docker.compose.service={service}")
    words = ("docker", "ps", "--no-trunc", "--quiet", "--filter", "status=running", *wanted)
    return next(iter(process.run(words, deadline_s=files.QUICK_S).out.split()), "")


def never_made(rendered: Rendered, service: str, path: str) -> bool:
    """Whether *path* lies in a named volume that the engine does not have: there is no data yet."""
    volume = _volume(rendered, _mount(rendered, service, path))
    if not volume:
        return False
    done = process.run(("docker", "volume", "inspect", volume), deadline_s=files.QUICK_S, mask=False)
    return not done.ok and "no such volume" in done.err.lower()


def here(rendered: Rendered, service: str, path: str) -> Path | None:
    """Where the mount that holds *path* lies on this host; None if it has none that can be seen from here."""
    mount = _mount(rendered, service, path)
    volume = _volume(rendered, mount)
    source = _mountpoint(volume) if volume else mount.get("source", "")
    return Path(source) / PurePosixPath(path).relative_to(mount["target"]) if source else None


def _mount(rendered: Rendered, service: str, path: str) -> dict[str, Any]:
    """The innermost mount that holds *path*; empty without one."""
    mounts: list[dict[str, Any]] = list(rendered.service(service).get("volumes") or ())
    holding = [each for each in mounts if PurePosixPath(path).is_relative_to(each.get("target", "?"))]
    return max(holding, key=lambda each: len(each["target"]), default={})


def _volume(rendered: Rendered, mount: dict[str, Any]) -> str:
    """The engine's name of a named volume; empty for any other mount."""
    if mount.get("type") != "volume":
        return ""
    source = mount.get("source", "")
    return str(((rendered.model.get("volumes") or {}).get(source) or {}).get("name", source))


def _mountpoint(volume: str) -> str:
    words = ("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume)
    done = process.run(words, deadline_s=files.QUICK_S, mask=False)
    return done.out.strip() if done.ok else ""

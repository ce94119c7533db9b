"""Which images and release files stay for a way back; the engine is a table of names and pins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cutover.core.config import Settings
from cutover.core.errors import ConfigError
from cutover.release import prune, rollback
from cutover.release.history import ADOPTED, UNRECORDED_FILE, Record, Unrecorded
from cutover.release.state import State
from cutover.system import docker
from cutover.system.container import Container
from cutover.system.process import CompletedCommand
from tests.helpers.inspected import container


def image(number: int) -> str:
    """The ID of image *number*."""
    return f"sha256:{number:012x}{'0' * 52}"


def pin(number: int) -> str:
    """The container that pins image *number*."""
    return f"cutover-keep-shop-{image(number)[7:19]}"


@dataclass
class ImageTable:
    """The images of an engine by their names, its pins, and what runs; it obeys the command lines of the code."""

    names: dict[str, str] = field(default_factory=dict)
    pins: set[str] = field(default_factory=set)
    there: set[str] = field(default_factory=set)
    running: dict[str, str] = field(default_factory=dict)
    """Project -> the image of its service."""
    in_registry: dict[str, str] = field(default_factory=dict)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    refuses: str = ""

    def run(self, argv: tuple[str, ...], **_: object) -> CompletedCommand:
        """Do what a `docker` command does with images and pins."""
        self.commands.append(argv)
        code, out, err = 0, "", ""
        match argv[1:]:
            case ["create", "--name", name, *_, reference]:
                if self.refuses or reference not in self.there:
                    code, err = 1, self.refuses or "no such image"
                else:
                    self.pins.add(name)
            case ["container", "inspect", name]:
                code = 0 if name in self.pins else 1
            case ["ps", *_]:
                out = "\n".join(sorted(self.pins))
            case ["rm", name]:
                self.pins.remove(name)
            case ["tag", given, name]:
                code, err = (1, self.refuses) if self.refuses else (0, "")
                self.names[name] = given
        return CompletedCommand(argv, code, out, err)

    def image_id(self, reference: str) -> str | None:
        """The ID of an image by its name or ID."""
        found = self.names.get(reference, reference)
        return found if found in self.there else None

    def by_service(self, project: str, services: object) -> Mapping[str, Container | None]:  # noqa: ARG002  # docker's
        """The container of the service in *project*."""
        found = self.running.get(project)
        return {"api": container(image=found) if found else None}

    def ensure_image(self, name: str) -> None:
        """Pull *name*."""
        if name not in self.in_registry:
            raise ConfigError(f"the registry has no {name}")
        self.names[name] = self.in_registry[name]
        self.there.add(self.in_registry[name])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ImageTable:
    """An engine with images 1 to 9, named by their tags."""
    made = ImageTable()
    made.there = {image(number) for number in range(1, 10)}
    made.names = {f"shop/api:sha-{number}": image(number) for number in range(1, 10)}
    monkeypatch.setattr("cutover.system.process.run", made.run)
    monkeypatch.setattr(docker, "image_id", made.image_id)
    monkeypatch.setattr(docker, "by_service", made.by_service)
    monkeypatch.setattr(rollback, "ensure_image", made.ensure_image)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two colors of one service."""
    colors = {color: {"env_file": f".env.{color}"} for color in ("blue", "green")}
    return Settings.model_validate(
        {"project": "shop", "state_dir": str(tmp_path / "state"), "colors": colors}
    )


@pytest.fixture
def state(settings: Settings) -> State:
    """Its state directory."""
    made = State(settings.state)
    made.prepare()
    return made


def record(
    state: State, number: int, color: str = "blue", *, reference: str = "", adopted: bool = False
) -> Record:
    """Release *number* on *color*, recorded with its release file."""
    file = f"{ADOPTED if adopted else '2025-'}{number}.yml"
    model = {
        "services": {"api": {"image": reference or f"shop/api:sha-{number}"}, "db": {"image": "postgres:15"}}
    }
    (state.release_folder(color) / file).write_text(json.dumps(model))
    made = Record(
        color, f"sha-{number}", image(number), "", f"c{number}", file, verified=True, by="ana", at="now"
    )
    state.keep_record(made)
    return made


# --- pins ------------------------------------------------------------------------------------------------------------
def test_an_image_is_pinned_by_a_container_that_never_starts(engine: ImageTable) -> None:
    """Its name says of which project and image it is; pinning twice is pinning once."""
    prune.pin_image("shop", image(1))
    assert engine.pins == {pin(1)}
    (create,) = engine.commands
    assert create[-3:] == ("--entrypoint", "true", image(1))
    assert "cutover.keep=shop" in create
    engine.refuses = "name is in use"
    prune.pin_image("shop", image(1))


def test_an_image_that_cannot_be_pinned_is_refused(engine: ImageTable) -> None:
    """Without it the release that runs could not be restored."""
    engine.refuses = "no space left on device"
    with pytest.raises(
        ConfigError, match=f"image {image(1)[7:19]} cannot be pinned for a rollback: no space left"
    ):
        prune.pin_image("shop", image(1))


def test_only_what_nobody_needs_is_unpinned(engine: ImageTable, settings: Settings, state: State) -> None:
    """The last three releases of each color and what runs are needed, also under an image's newer name."""
    for number in (1, 2, 3, 4):
        record(state, number)
    record(state, 5, "green", reference="shop/api:moved")
    engine.names["shop/api:moved"] = image(6)
    engine.running = {"shop_green": image(7)}
    engine.pins = {pin(number) for number in range(1, 10)} | {"somebody-else"}
    prune.unpin_images(settings, state)
    assert engine.pins == {pin(number) for number in (2, 3, 4, 5, 6, 7)} | {"somebody-else"}


def test_a_release_file_that_is_gone_costs_nothing_else(
    engine: ImageTable, settings: Settings, state: State
) -> None:
    """The record itself still names the image of the service with the traffic."""
    state.release_path("blue", record(state, 1).file).unlink()
    engine.pins = {pin(1), pin(2)}
    prune.unpin_images(settings, state)
    assert engine.pins == {pin(1)}


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff\xfe", b'{"services": null}'])
def test_a_damaged_release_file_costs_nothing_else(
    engine: ImageTable, settings: Settings, state: State, text: bytes
) -> None:
    """Images are unpinned also after a revert that has gone well; the last file that can be read is used."""
    older, newest = record(state, 1), record(state, 2)
    state.release_path("blue", newest.file).write_bytes(text)
    engine.pins = {pin(1), pin(2), pin(3)}
    prune.unpin_images(settings, state)
    assert engine.pins == {pin(1), pin(2)}
    found = rollback._newest_file(settings, state, "blue")
    assert found is not None
    assert found.text == state.release_path("blue", older.file).read_text()


@pytest.mark.usefixtures("engine")
def test_files_of_recorded_releases_stay(settings: Settings, state: State) -> None:
    """And the last three that were rendered, recorded or not; an adopted one only while a record names it."""
    kept = [record(state, 1), record(state, 2, adopted=True)]
    folder = state.release_folder("blue")
    for name in ("2026-3.yml", "2026-4.yml", "2026-5.yml", "2026-6.yml", f"{ADOPTED}9.yml", "notes.txt"):
        (folder / name).write_text("{}")
    prune.prune_releases(settings, state)
    there = {each.name for each in folder.iterdir()}
    assert there == {each.file for each in kept} | {
        "2026-4.yml", "2026-5.yml", "2026-6.yml", "notes.txt", "records.json",
    }  # fmt: skip


# --- what a rollback needs -------------------------------------------------------------------------------------------
def test_an_image_gets_its_name_again(engine: ImageTable, settings: Settings, state: State) -> None:
    """A tag that has moved, or was pruned, would start another image under the name of the release."""
    to = record(state, 1)
    engine.names["shop/api:sha-1"] = image(2)
    rollback.require_image(settings, state, to, "blue")
    assert engine.names["shop/api:sha-1"] == image(1)
    del engine.names["shop/api:sha-1"]
    rollback.require_image(settings, state, to, "blue")
    assert engine.names["shop/api:sha-1"] == image(1)


def test_an_image_that_has_its_name_is_left_alone(
    engine: ImageTable, settings: Settings, state: State
) -> None:
    """Nothing is tagged or pulled."""
    rollback.require_image(settings, state, record(state, 1), "blue")
    assert not engine.commands


def test_a_digest_is_no_name_to_give(engine: ImageTable, settings: Settings, state: State) -> None:
    """An image by digest is pulled again if it is gone."""
    reference = f"shop/api@{image(1)}"
    engine.in_registry[reference] = image(1)
    rollback.require_image(settings, state, record(state, 1, reference=reference), "blue")
    assert engine.image_id(reference) == image(1)
    assert not engine.commands


def test_a_pruned_image_is_pulled(engine: ImageTable, settings: Settings, state: State) -> None:
    """Where the registry still has the tag."""
    to = record(state, 1)
    engine.there.remove(image(1))
    engine.in_registry["shop/api:sha-1"] = image(1)
    rollback.require_image(settings, state, to, "blue")
    assert engine.image_id("shop/api:sha-1") == image(1)


def test_a_pruned_image_without_a_registry_is_said(
    engine: ImageTable, settings: Settings, state: State
) -> None:
    """The reason is that it was pruned here, and the way out another release."""
    to = record(state, 1)
    engine.there.remove(image(1))
    said = "the previous release sha-1 was pruned from this host, and the registry has no .*; name another .*--to-tag"
    with pytest.raises(ConfigError, match=said):
        rollback.require_image(settings, state, to, "blue")


def test_an_image_that_cannot_be_named_is_said(engine: ImageTable, settings: Settings, state: State) -> None:
    """With the words of the engine."""
    to = record(state, 1)
    engine.names["shop/api:sha-1"] = image(2)
    engine.refuses = "read-only file system"
    with pytest.raises(ConfigError, match="shop/api:sha-1 cannot be named again for the rollback: read-only"):
        rollback.require_image(settings, state, to, "blue")


# --- what a commit has left ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "act",
    [rollback.rehearse_rollback, lambda settings, state: rollback.roll_back_to(settings, state, "sha-1")],
    ids=["rehearse", "--to-tag"],
)
@pytest.mark.usefixtures("engine")
def test_the_record_of_a_commit_is_completed_first(
    settings: Settings,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Settings, State], object],
) -> None:
    """Of a session that died right after it: whatever is opened next would take its place on disk."""

    def refuse(_settings: Settings) -> None:
        raise ConfigError("no compose file")

    monkeypatch.setattr(rollback, "inspect_colors", refuse)
    left = Unrecorded("7", "released", {"color": "blue", "tag": "sha-2"})
    (state.root / UNRECORDED_FILE).write_text(left.as_text())
    with pytest.raises(ConfigError, match="no compose file"):
        act(settings, state)
    assert state.unrecorded() is None
    assert [row["event"] for row in state.history()] == ["released"]

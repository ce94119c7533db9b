"""What one-off containers beside a stack are run from, and why they could not be run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config import Settings
from cutover.core.errors import ConfigError, Failed, OperatorNeeded
from cutover.core.evidence import Evidence
from cutover.core.target import ReleaseRequest, Target
from cutover.core.verdict import Verdict, no, yes
from cutover.database.base import ServiceDatabase
from cutover.proxy.base import Live
from cutover.release import migrate, verify
from cutover.release.colors import BeforeRelease, Colors, Situation
from cutover.release.deploy_checks import one_off_problems
from cutover.release.history import Record
from cutover.release.migrate import migrate_database, one_off_file
from cutover.release.transaction import Reporter, Transaction
from cutover.system import compose, docker, process
from cutover.system.compose import Rendered


def settings(state: Path, **tables: Any) -> Settings:
    """Settings of a project with a migration."""
    given = {"project": "shop", "state_dir": state, "colors": {"blue": {"env_file": "/b"}}}
    return Settings.model_validate(given | {"migrate": {"command": ["up"]}} | tables)


def stack(hashes: dict[str, str] | None = None, **service: Any) -> Rendered:
    """A release of a stack whose service is on a network and has a secret."""
    api = {"image": "shop:1", "networks": {"shared": None}, "secrets": [{"source": "key", "target": "/k"}]}
    model = {
        "services": {"api": api | service, "db": {"image": "postgres"}},
        "networks": {"shared": {"name": "shop_shared", "external": True}},
        "secrets": {"key": {"environment": "KEY"}},
    }
    given = {"api": "hash"} if hashes is None else hashes
    return Rendered("blue", "shop_blue", "{}", model, {"KEY": "s3cret"}, given)


def situation(given: Settings, *, migrate: bool = True) -> Situation:
    """A deploy to blue."""
    target = Target(
        name="blue", kind="color", base_url="http://127.0.0.1:1", color="blue", project="shop_blue"
    )
    request = ReleaseRequest(("blue",), deploy="1", migrate=migrate)
    return Situation(
        given, request, Colors(given, {}, None, Live(None, "")), target, BeforeRelease(None, None)
    )


def test_one_off_containers_of_a_stack_have_a_private_file(tmp_path: Path) -> None:
    """It is there as long as they run, with the secret of the compose file, and is removed with it."""
    release = tmp_path / "releases" / "blue" / "1.yml"
    release.parent.mkdir(parents=True)
    with one_off_file(situation(settings(tmp_path)), stack(), release) as file:
        model = json.loads(file.read_text())
        secret = Path(model["secrets"]["key"]["file"])
        assert file.parent == release.parent  # by its name the lock of the migration knows the color
        assert (file.stat().st_mode & 0o777, secret.stat().st_mode & 0o777) == (0o600, 0o444)
        assert secret.parent.stat().st_mode & 0o777 == 0o700
        assert secret.read_text() == "s3cret"
        assert list(model["services"]) == ["api"]
    assert not file.exists()
    assert not secret.parent.exists()


def test_what_a_killed_session_left_is_removed(tmp_path: Path) -> None:
    """The next deploy to any color removes the secrets, also one that runs no one-off container."""
    left = [tmp_path / "releases" / "green" / "one-off.yml", tmp_path / "one-off" / "key"]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_text("s3cret")
    release = tmp_path / "releases" / "blue" / "1.yml"
    with one_off_file(situation(settings(tmp_path), migrate=False), stack(), release) as file:
        assert file == release
        assert [path for path in left if path.exists()] == []


@pytest.mark.parametrize(
    ("hashes", "tables", "migrate"), [({}, {}, True), (None, {"migrate": None}, True), (None, {}, False)]
)
def test_others_are_run_from_the_release_file(
    tmp_path: Path, hashes: dict[str, str] | None, tables: dict[str, Any], migrate: bool
) -> None:
    """With Compose, and where nothing is run."""
    release = tmp_path / "1.yml"
    given = situation(settings(tmp_path, **tables), migrate=migrate)
    with one_off_file(given, stack(hashes), release) as file:
        assert file == release
        assert [*tmp_path.iterdir()] == []


ATTACHABLE = {"Scope": "swarm", "Driver": "overlay", "Attachable": True}


@pytest.mark.parametrize(
    ("network", "tables", "service", "problem"),
    [
        (ATTACHABLE, {}, {}, ""),
        (ATTACHABLE | {"Attachable": False}, {}, {}, "networks.shared: api runs in a one-off container"),
        (ATTACHABLE | {"Attachable": False}, {"migrate": None}, {}, ""),
        (None, {}, {}, "there is no such network"),
        (None, {"shared_network": "shop_shared"}, {}, ""),
        (None, {}, {"networks": {"default": None}}, ""),
        (ATTACHABLE, {}, {"secrets": [{"source": "other"}]}, "secrets.other: has no content"),
        (ATTACHABLE, {"migrate": {"command": ["up"], "service": "web"}}, {}, "is 'web', and the compose file of blue has api, db"),
    ],
)  # fmt: skip
def test_what_cannot_run_beside_a_stack_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    network: dict[str, Any] | None,
    tables: dict[str, Any],
    service: dict[str, Any],
    problem: str,
) -> None:
    """A network that is missing or not attachable, unless the preflight makes it; a secret that nobody has here."""
    monkeypatch.setattr(docker, "network", lambda _: network)
    rendered = stack(**service)
    rendered.model["secrets"]["other"] = {"external": True}
    found = [*one_off_problems(settings(tmp_path, **tables), rendered)]
    assert len(found) == bool(problem)
    assert problem in "".join(found)


@pytest.mark.parametrize(("tag", "image"), [("1", ""), (None, "sha256:11")])
@pytest.mark.parametrize(
    ("verified", "rollback", "failed", "before", "after", "needs_operator"),
    [
        (True, True, {}, None, [{}], False),
        (True, True, {}, None, [{"ready": "503"}, {"ready": "503"}], True),
        (True, True, {}, None, [{"ready": "503"}, {}], False),
        (True, True, {"ready": "503"}, None, [{"ready": "503"}], False),
        (True, True, {"ready": "503"}, None, [{"ready": "503", "version": "500"}] * 2, True),
        (True, True, {}, None, [{"logs": "5 errors"}], False),
        # One that never passed a gate is asked before the migration too; so is one whose revert is not wanted.
        (False, True, {}, {"read_only": "writes"}, [{"read_only": "writes"}], False),
        (False, True, {}, {"read_only": "writes"}, [{"ready": "503"}] * 2, True),
        (True, False, {}, {"ready": "503"}, [{"ready": "503"}], False),
    ],
)
def test_a_migration_needs_an_operator_only_for_what_it_broke(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    tag: str | None,
    image: str,
    verified: bool,
    rollback: bool,
    failed: dict[str, str],
    before: dict[str, str] | None,
    after: list[dict[str, str]],
    needs_operator: bool,
) -> None:
    """What the live release failed before is a note, and so is what it fails for a moment; also without a tag."""
    given = settings(tmp_path)
    here = situation(given)
    here = replace(here, before=BeforeRelease("green", tag, image, failed=failed))
    here = replace(here, request=replace(here.request, rollback=rollback))
    here.state.prepare()
    here.state.keep_record(
        Record("green", tag or "", image, "h", "c", "1.yml", verified=verified, by="ana", at="now")
    )

    def gates(answers: list[dict[str, str]]) -> Iterator[Verdict]:
        yield from (no("smoke", str(each), failed=each) if each else yes("smoke", "ok") for each in answers)

    asked, then = gates([before] if before is not None else []), gates(after)
    monkeypatch.setattr(migrate, "run_gate", lambda *_: next(asked))
    monkeypatch.setattr(verify, "run_gate", lambda *_: next(then))
    monkeypatch.setattr(verify, "main_container", lambda *_: None)
    monkeypatch.setattr(
        verify, "settle", lambda judge: min((judge() for _ in after), key=lambda it: bool(it[0]))
    )
    monkeypatch.setattr(migrate, "_migrate", lambda *_: True)
    report = Reporter(Evidence())
    caught = ""
    try:
        migrate_database(Transaction.of(here), here, stack(), tmp_path / "1.yml", report)
    except OperatorNeeded as error:
        caught = str(error)
    assert bool(caught) == needs_operator
    if needs_operator:
        assert caught.startswith("green on the new schema: the old release does not pass the gate: ")
        assert caught.endswith("; the data from before: cutover snapshot restore")
    assert report.evidence.steps[-1].name == "smoke[green]"


@pytest.mark.parametrize(("tag", "image"), [("1", "shop:1"), (None, "sha256:11")])
def test_the_live_release_is_rehearsed_in_its_own_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str | None, image: str
) -> None:
    """One without a tag in the image that it runs, whatever tag its env file names now."""
    here, asked = situation(settings(tmp_path)), list[str | None]()
    here = replace(here, before=BeforeRelease("green", tag, "sha256:11"))

    def rehearse(_: object, __: object, live: Rendered | None) -> list[Verdict]:
        asked.append(live.image("api") if live else None)
        return [yes("ready", "ok")]

    monkeypatch.setattr(compose, "render", lambda *_: stack({}))
    monkeypatch.setattr(migrate, "rehearse_migration", rehearse)
    report = Reporter(Evidence())
    database = ServiceDatabase(here.settings, stack(), tmp_path)
    migrate._require_rehearsal(here, database, stack(), report)
    assert asked == [image]
    assert report.evidence.steps[-1].text.endswith(f", {tag or '11'} passes 1 checks")


UNREAD = ConfigError(".env: DATABASE_URL is a mysql URL; snapshots support postgresql and sqlite")
UNKNOWN = "which revision the schema has is unknown ([database] schema_table)"


@pytest.mark.parametrize(
    ("before", "after", "exit_code", "said", "gated"),
    [
        ("a1", "a1", 0, "schema is at a1", False),
        ("a1", "b2", 0, "a1 → b2", True),
        ("", "b2", 0, "nothing → b2", True),
        ("", "", 0, f"the migration ran; {UNKNOWN}", True),
        ("a1", "", 0, f"the migration ran; {UNKNOWN}", True),
        (UNREAD, UNREAD, 0, f"the migration ran; {UNKNOWN}", True),
        ("a1", "b2", 1, "the migration failed: no such table; the schema is at b2", False),
        (UNREAD, UNREAD, 1, f"the migration failed: no such table; {UNKNOWN}", False),
    ],
)
def test_an_unknown_revision_counts_as_another_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: str | ConfigError,
    after: str | ConfigError,
    exit_code: int,
    said: str,
    gated: bool,
) -> None:
    """MySQL, or a table of revisions that is named otherwise: the live release is asked on the new schema all the same."""
    heads, asked = [before, after], list[str]()

    def head(_: ServiceDatabase) -> str:
        found = heads.pop(0)
        if isinstance(found, ConfigError):
            raise found
        return found

    done = process.CompletedCommand((), exit_code, "", "no such table")
    monkeypatch.setattr(ServiceDatabase, "available", lambda _: True)
    monkeypatch.setattr(ServiceDatabase, "head", head)
    monkeypatch.setattr(ServiceDatabase, "migration_change", lambda *_: None)
    monkeypatch.setattr(Transaction, "apply", lambda *_: done)
    monkeypatch.setattr(migrate, "_before_migration", lambda _: None)
    monkeypatch.setattr(migrate, "_require_gate_of_live", lambda *_: asked.append("gate"))
    here, report = situation(settings(tmp_path, snapshot={"enabled": False})), Reporter(Evidence())
    with pytest.raises(Failed) if exit_code else nullcontext() as caught:
        migrate_database(Transaction.of(here), here, stack(), tmp_path / "1.yml", report)
    assert (str(caught.value) if caught else report.evidence.steps[-1].text) == said
    assert asked == ["gate"] * gated
    assert ("schema" in report.evidence.facts) is gated

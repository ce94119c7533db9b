"""Releases of a service with PostgreSQL, Redis and an AI endpoint, while a client writes rows."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from examples.stand import Result, Stand
from tests.e2e.canaries import sampled, told
from tests.e2e.writer import Writer, writing
from tests.helpers.shared_services import BAD, BROKEN, CONTRACT, GOOD, OLDER, SETTINGS, Parts, made

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@dataclass(slots=True)
class Service:
    """A stand with its database, and the output of its sessions."""

    stand: Stand
    parts: Parts
    said: list[str] = field(default_factory=list)

    def release(self, tag: str, target: str, *more: str) -> Result:
        """Release *tag* while the process list is sampled for the password."""
        made(tag)
        with sampled(self.parts.password) as processes:
            done = self.stand.pytest("smoke", "checks", f"--target={target}", f"--deploy={tag}", *more)
        self.said.append(done.out)
        assert processes.samples > 0
        assert processes.found == set()
        return done

    def live(self) -> object:
        """The tag that the proxy serves."""
        return self.stand.ask().get("version")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An older release, whose schema lacks the newest revisions, is live on blue."""
    name, folder = f"pgrel{secrets.token_hex(3)}", tmp_path_factory.mktemp("stand")
    parts = Parts(name)
    stand = Stand(folder, name, extra=SETTINGS, migrate=True, environment=parts.environment)
    try:
        parts.start(folder, stand)
        stand.make()
        ready = Service(stand, parts)
        first = ready.release(OLDER, "live")
        assert first.code == 0, first.last
        yield ready
    finally:
        parts.remove(stand)
        stand.remove()


def test_every_acknowledged_row_survives_a_release_over_a_migration(service: Service) -> None:
    """Every row acknowledged during a migration and switch is stored."""
    before = service.parts.head()
    with writing(Writer(service.stand.url)) as writer:
        writer.until(20, 60)
        done = service.release(GOOD, "idle", "--switch", "--watch=3s")
        writer.until(len(writer.acknowledged) + 20, 60)
    assert done.code == 0, done.last
    assert service.live() == GOOD
    assert service.parts.head() != before
    assert set(writer.acknowledged) <= service.parts.texts()
    assert writer.failed == 0
    listed = service.stand.cutover("snapshot", "list")
    assert " verified" in listed.out, listed.out


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        (CONTRACT, "on the restored copy: rehearsal: GET /memories"),
        (BROKEN, "on the restored copy: rehearsal: migrate"),
        (BAD, "version"),
    ],
    ids=["a schema that the old code cannot live with", "a migration that fails", "a release that is bad"],
)
def test_a_no_before_the_switch_leaves_users_and_rows_as_they_were(
    service: Service, tag: str, why: str
) -> None:
    """The old release keeps serving and writing; a migration that failed its rehearsal has not changed the schema."""
    live, before = service.live(), service.parts.head()
    with writing(Writer(service.stand.url)) as writer:
        writer.until(20, 60)
        done = service.release(tag, "idle", "--switch", "--watch=3s")
        writer.until(len(writer.acknowledged) + 20, 60)
    assert done.code == 1, done.last
    assert why in done.out
    assert service.live() == live
    assert set(writer.acknowledged) <= service.parts.texts()
    assert writer.failed == 0
    if tag != BAD:
        assert service.parts.head() == before
    # All kinds of releases have run by now, so their output and files are searched here.
    assert not any(service.parts.password in each for each in service.said)
    assert told(service.stand.folder, service.parts.password) == []

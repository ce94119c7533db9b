"""A service that runs under Compose is taken over by its first release, and can be put back exactly."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.releases import build
from examples.stand import GOOD, Stand

pytestmark = pytest.mark.engine
NEXT, BAD = "sha-2222222", "sha-bac0005"
BEFORE = """\
services:
  api:
    image: {name}/old:{tag}
    hostname: before
    environment: {{ONLY_BEFORE: "a$$b"}}
    labels: {{team: old}}
    extra_hosts: ["before:10.1.1.1"]
    volumes: ["{name}_before:/before"]
    ulimits: {{nofile: 2000}}
volumes: {{{name}_before: {{name: {name}_before}}}}
"""


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """A stand without a proxy."""
    made = Stand(tmp_path, f"ado{uuid.uuid4().hex[:6]}", proxied=False)
    try:
        yield made.make()
    finally:
        made.remove()
        made.docker("volume", "rm", f"{made.name}_before", check=False)
        made.docker("image", "rm", f"{made.name}/old:{GOOD}", check=False)


def inspected(stand: Stand) -> dict[str, Any]:
    """`docker inspect` of what runs, without what is new for each container."""
    labels = (
        f"label=com.docker.compose.project={stand.project('blue')}",
        "label=com.docker.compose.service=api",
    )
    (running,) = stand.docker("ps", "-q", "--filter", labels[0], "--filter", labels[1]).split()
    (found,) = json.loads(stand.docker("inspect", running))
    config, host = found["Config"], found["HostConfig"]
    own = {key: value for key, value in config["Labels"].items() if not key.startswith("com.docker.compose.")}
    networks = found["NetworkSettings"]["Networks"]
    return {
        "image": found["Image"],
        "name": found["Name"],
        "config": config | {"Labels": own, "Env": sorted(config["Env"])},
        "host": host | {key: sorted(host[key] or ()) for key in ("Binds", "ExtraHosts")} | {"Mounts": None},
        "mounts": sorted(
            (row["Type"], row.get("Name", ""), row["Destination"], row["RW"]) for row in found["Mounts"]
        ),
        "aliases": {name: sorted({*row["Aliases"]} - {running}) for name, row in networks.items()},
    }


def test_what_ran_is_put_back_exactly(stand: Stand) -> None:
    """Its file and its image's name are gone: a bad release leaves it as it was, and a rollback leads to it."""
    before = stand.folder / "deploy" / "before.yml"
    before.write_text(BEFORE.format(name=stand.name, tag=GOOD))
    image = f"{stand.name}/old:{GOOD}"
    stand.docker("tag", build(GOOD), image)
    stand.docker("network", "create", f"{stand.name}_shared")
    files = ("--file", str(before.with_name("docker-compose.yml")), "--file", str(before))
    stand.docker(
        "compose", "--env-file", str(stand.env_file("blue")), *files, "up", "-d", "--wait", "--no-deps", "api"
    )
    was = inspected(stand)
    before.unlink()
    stand.docker("image", "rm", "--force", image)

    bad = stand.release(BAD, "live", defect="wrong-version")
    assert bad.code == 1, bad.out
    assert inspected(stand) == was

    good = stand.release(NEXT, "live")
    assert good.code == 0, good.out
    assert stand.ask(color="blue")["version"] == NEXT
    status = stand.cutover("status")
    assert status.code == 0, status.out
    assert f"roll back puts {GOOD} back as it ran before its first release" in " ".join(status.out.split())

    back = stand.cutover("rollback")
    assert back.code == 0, back.out
    assert inspected(stand) == was
    assert stand.cutover("rollback").code == 0
    assert inspected(stand) == was

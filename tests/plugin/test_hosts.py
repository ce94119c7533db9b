"""The session of a coordinator: its plan, and the ids of the tests of its hosts."""

from __future__ import annotations

import subprocess

import pytest

from cutover.core.evidence import Check
from cutover.core.verdict import yes
from cutover.plugin.hosts import test_on as id_on
from tests.plugin.project import Project

HOSTS = """
[proxy]
driver = "nginx"
url = "http://127.0.0.1:9"
[hosts]
names = ["web-1.invalid", "web-2.invalid", "web-3.invalid"]
path = "/srv/trap"
watch = ["15m", "2m"]
"""
ASKED = ("--on-hosts=all", "--target=idle", "--switch", "--deploy=sha-2")


@pytest.fixture
def hosts(project: Project) -> Project:
    """A project with three hosts, none of which exists."""
    path = project.folder / "cutover.toml"
    path.write_text(path.read_text() + HOSTS)
    project.test("def test_good(target):\n    pass\n")
    return project


def run(project: Project, *more: str) -> tuple[int, str]:
    """Exit code of a coordinator's session, and what it said, without line breaks."""
    words = [word for word in project.words(*ASKED, *more) if word != "--target=green"]
    done = subprocess.run(
        words, cwd=project.folder, env=project.environment(), capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_a_plan_names_the_batches_and_asks_no_host(hosts: Project) -> None:
    """`--plan` says which hosts are switched when and how long they are watched; exit 0."""
    code, said = run(hosts, "--plan")
    assert code == 0, said
    assert "web-1.invalid: watched for 15 min" in said
    assert "web-3.invalid: watched for 2 min" in said
    assert "PLAN nothing was checked, nothing was changed." in said


def test_hosts_that_do_not_exist_are_told_in_one_line_each(hosts: Project) -> None:
    """Exit 4, a line for each host with the way out, and no report."""
    code, said = run(hosts)
    assert code == 4, said
    for host in ("web-1.invalid", "web-2.invalid", "web-3.invalid"):
        assert f"{host}: no host of that name: name it as `ssh` knows it" in said
    assert "Traceback" not in said
    assert not [*(hosts.folder / "reports").glob("2*")]


@pytest.mark.parametrize(
    ("test", "target", "color", "expected"),
    [
        (
            "smoke/test_ready.py::test_ready[idle]",
            "green",
            "green",
            "smoke/test_ready.py::test_ready[web-2-green]",
        ),
        (
            "smoke/t.py::test_endpoint[idle-GET /x]",
            "green",
            "blue",
            "smoke/t.py::test_endpoint[web-2-blue-GET /x]",
        ),
        (
            "smoke/test_ready.py::test_ready[live]",
            "live",
            "green",
            "smoke/test_ready.py::test_ready[web-2-live]",
        ),
        ("smoke/t.py::test_x[idle-]", "", "", "smoke/t.py::test_x[web-2-idle-]"),
        ("deploy::up", "green", "green", "deploy::up[web-2-green]"),
        ("own.py::test_alone", "", "green", "own.py::test_alone[web-2]"),
    ],
)
def test_an_id_names_the_host_and_the_color(test: str, target: str, color: str, expected: str) -> None:
    """The tests of several hosts can be told apart, as `[web-2-green]`."""
    assert id_on(Check(1, test, target, 0, yes("ready", "it is"), 0.1, 1.0), "web-2", color) == expected

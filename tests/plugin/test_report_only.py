"""`[checks] report_only`: a check that is named there reports its no and its unknown, and decides nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cutover.core import config_schema
from cutover.core.config import Settings
from cutover.watch import suite
from tests.plugin.project import GOOD, REPOSITORY, TOML, Project

ENDPOINT = "GET /memories"
GATE = (*config_schema.GATE_CHECKS, *config_schema.SHARED_CHECKS, ENDPOINT, "own")
WATCH = (*config_schema.WATCH_CHECKS, "dependency db")
MORE = """\
[[endpoints]]
path = "/memories"
[[dependencies]]
name = "db"
kind = "tcp"
url = "tcp://db:5432"
"""
VERDICTS = """
import pytest
from cutover.core.verdict import no, unknown, yes

@pytest.mark.parametrize("name", {names!r})
@pytest.mark.parametrize("say", [no, unknown])
def test_said(target, assert_verdict, say, name):
    assert_verdict(say(name, "as scripted", seen="42"))
"""
STAYS_WELL = """
import pytest
from checks import test_watch as shipped
from cutover.core.verdict import no, unknown
from cutover.watch.check import WatchResult

@pytest.fixture(scope="session", params=[no, unknown])
def watch_result(request, target):
    return WatchResult({{name: request.param(name, "as scripted") for name in {names!r}}}, 1.0)

@pytest.mark.parametrize("name", {names!r})
def test_stays_well(watch_result, name, assert_verdict):
    shipped.test_stays_well(watch_result, name, assert_verdict)
"""


def test_a_check_that_is_off_decides_nothing(tmp_path: Path) -> None:
    """Neither its no nor its yes counts, and the evidence says why it was not asked."""
    project = Project.at(tmp_path)
    project.test(GOOD, "test_good.py")
    project.test(VERDICTS.format(names=["ready", "latency"]))
    listed = '[checks]\noff = ["ready", "latency"]\n'
    (project.folder / "cutover.toml").write_text(TOML.format(state=project.state) + listed)
    done = project.run()
    assert done.returncode == 0, done.stdout
    seen = {row["question"]: (row["outcome"], row["reason"]) for row in recorded(project)}
    assert seen["ready"] == ("not asked", "off by [checks] off")
    assert seen["latency"] == ("not asked", "off by [checks] off")


OFF = """
import pytest
from cutover.core.verdict import no, yes

def asked(name, say=yes):
    def ask():
        print("asks " + name)
        return say(name, "scripted")
    return ask

@pytest.fixture
def look(target):
    print("looks for health")

@pytest.mark.asks("health")
def test_health(look, assert_verdict):
    assert_verdict(asked("health", no)())

def test_both(target, assert_verdict):
    assert_verdict({"restarts": asked("restarts", no), "unchanged": asked("unchanged")})

def test_first_no_ends_it(target, assert_verdict):
    assert_verdict({"user": asked("user"), "logs": asked("logs", no), "latency": asked("latency")})
"""


def test_a_check_that_is_off_is_not_run(project: Project) -> None:
    """Neither its test with its fixtures, nor its part of a test with others; the report says so."""
    (project.folder / "cutover.toml").write_text(
        TOML.format(state=project.state) + '[checks]\noff = ["health", "restarts"]\n'
    )
    project.test(OFF)
    done = project.run("-s")
    assert done.returncode == 1, done.stdout
    ran = [line.removeprefix("asks ") for line in done.stdout.splitlines() if line.startswith("asks ")]
    assert ran == ["unchanged", "user", "logs"]
    assert "looks for health" not in done.stdout
    assert "not asked: off by [checks] off (1 check)" in done.stdout
    page = (project.folder / "reports" / "latest" / "report.html").read_text()
    assert "restarts: off by [checks] off" in page
    assert "off by [checks] off: <code>gate/test_gate.py::test_health" in page


def test_the_gate_says_what_it_asks() -> None:
    """Each shipped test names its checks, which are those of `[checks]`."""
    files = [*(REPOSITORY / "smoke").glob("test_*.py"), REPOSITORY / "checks" / "test_room.py"]
    named = {
        name
        for file in files
        for name in re.findall(r'"([\w-]+)"', " ".join(re.findall(r"asks\((.*?)\)", file.read_text())))
    }
    assert named == {*config_schema.GATE_CHECKS, *config_schema.SHARED_CHECKS}


def test_an_unknown_check_is_refused(project: Project) -> None:
    """A mistake in `[checks]` would leave the check in force without a word; all are named at once."""
    listed = '[checks]\noff = ["laek", "qqqq"]\nreport_only = ["logs", "lantecy", "helth"]\nown = ["mine"]\n'
    (project.folder / "cutover.toml").write_text(TOML.format(state=project.state) + listed)
    done = project.run()
    assert done.returncode == 4, done.stdout
    assert "checks.off: unknown check 'laek'; did you mean 'leak'?" in done.stderr
    assert "checks.report_only: unknown check 'lantecy'; did you mean 'latency'?" in done.stderr
    assert "checks.report_only: unknown check 'helth'; did you mean 'health'?" in done.stderr
    assert "checks.off: unknown check 'qqqq'; allowed: identity, health, " in done.stderr
    assert "tls, mine. A check of your own is to be named in checks.own" in done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a check that passes."""
    made = Project.at(tmp_path)
    made.test(GOOD, "test_good.py")
    return made


def configure(project: Project, report_only: tuple[str, ...]) -> None:
    """Write its cutover.toml."""
    listed = f'{MORE}[checks]\nown = ["own"]\nreport_only = {json.dumps(report_only)}\n'
    (project.folder / "cutover.toml").write_text(TOML.format(state=project.state) + listed)


def recorded(project: Project) -> list[dict[str, Any]]:
    """The verdicts in the session's evidence."""
    (file,) = (project.folder / "reports").glob("2*/evidence.jsonl")
    rows = map(json.loads, file.read_text().splitlines())
    return [row["verdict"] for row in rows if row.get("kind") == "check"]


def test_the_names_of_the_watch_are_all_there() -> None:
    """The list above is the list of the code."""
    table = {
        "project": "p",
        "colors": {color: {"env_file": f".env.{color}"} for color in ("blue", "green")},
        "proxy": {"driver": "nginx", "url": "https://x", "access_log": "access.json"},
        "endpoints": [{"path": "/"}],
        "dependencies": [{"name": "db", "kind": "tcp", "url": "tcp://db:1"}],
        "alerts": {"prometheus": "http://x"},
    }
    assert {*suite.check_names(Settings.model_validate(table))} == {*WATCH}


def test_every_check_of_the_gate_only_reports(project: Project) -> None:
    """Neither a no nor an unknown fails the test or the session; both are in the evidence, with what was seen."""
    configure(project, GATE)
    project.test(VERDICTS.format(names=GATE))
    done = project.run()
    assert done.returncode == 0, done.stdout
    assert "reported: as scripted; [checks] report_only" in done.stdout
    told = [each for each in recorded(project) if each["reason"].startswith("reported: ")]
    assert sorted(each["question"] for each in told) == sorted(GATE * 2)
    assert {(each["outcome"], each["seen"]) for each in told} == {("not asked", "42")}


def test_every_check_of_the_watch_only_reports(project: Project) -> None:
    """What a watch saw last is reported by the shipped test, and does not fail it."""
    configure(project, WATCH)
    project.test(STAYS_WELL.format(names=WATCH), "test_watch.py")
    done = project.run()
    assert done.returncode == 0, done.stdout
    told = [each for each in recorded(project) if each["reason"].startswith("reported: ")]
    assert sorted(each["question"] for each in told) == sorted(WATCH * 2)


@pytest.mark.parametrize(("say", "code"), [("no", 1), ("unknown", 10)])
def test_another_check_still_decides(project: Project, say: str, code: int) -> None:
    """Only the named checks report, also where one test expects both kinds."""
    configure(project, ("health",))
    both = f"    assert_verdict({say}('health', 'h'))\n    assert_verdict(yes('ready', 'r'))\n    assert_verdict({say}('user', 'u'))\n"
    project.test(
        f"from cutover.core.verdict import no, unknown, yes\ndef test_b(target, assert_verdict):\n{both}"
    )
    done = project.run()
    assert done.returncode == code, done.stdout
    assert "user: u" in done.stdout
    assert not project.mark.exists()


def test_a_yes_beside_it_passes(project: Project) -> None:
    """A test with a yes and a no that is only reported has passed."""
    configure(project, ("health",))
    project.test(
        "from cutover.core.verdict import no, yes\n"
        "def test_b(target, assert_verdict):\n    assert_verdict(no('health', 'h'))\n    assert_verdict(yes('ready', 'r'))\n"
    )
    done = project.run()
    assert done.returncode == 0, done.stdout
    assert "by 2 checks" in done.stdout, "the good test and this one"


def test_nothing_but_reports_proves_nothing(project: Project) -> None:
    """With every test reported only, no check is left that could pass: the release is reverted."""
    configure(project, ("health",))
    (project.folder / "gate" / "test_good.py").unlink()
    project.test(
        "from cutover.core.verdict import no\ndef test_b(target, assert_verdict):\n    assert_verdict(no('health', 'h'))\n"
    )
    done = project.run()
    assert done.returncode == 5, done.stdout
    assert not project.mark.exists()

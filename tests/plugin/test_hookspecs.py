"""Hooks for other plugins: what they are given, and that their failures change no verdict."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.plugin.project import GOOD, REPOSITORY, Project

BAD = "def test_bad(target, assert_verdict):\n    from cutover import no\n    assert_verdict(no('answer', 'got 41', seen='41'))\n"
FOLLOWER = """\
import dataclasses, json, threading

def told(*row):
    with open("told.jsonl", "a") as out:
        out.write(json.dumps([threading.current_thread().name, *row]) + "\\n")

def pytest_cutover_stage(config, step):
    told("stage", step.name, step.outcome, step.at > step.seconds >= 0)

def pytest_cutover_verdict(check):
    told("verdict", check.test, check.verdict.question, str(check.verdict.outcome), check.verdict.reason)
    try:
        check.verdict.outcome = "yes"
    except dataclasses.FrozenInstanceError:
        check.verdict.evidence["planted"] = 1

def pytest_cutover_end(result):
    told("end", str(result.status), result.exit_code)

def pytest_cutover_report(folder, result):
    told("report", str(result.status), sorted(each.name for each in folder.iterdir()))
"""
SPANS = """\
import json
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

def pytest_unconfigure(config):
    with open("spans.json", "w") as out:
        json.dump([json.loads(each.to_json()) for each in exporter.get_finished_spans()], out)
"""


# The hang comes last: what is queued behind it is not called any more.
BROKEN = """\
import time
import pytest
from cutover.plugin.session import SESSION

def pytest_cutover_stage(config):
    config.stash[SESSION].hook_calls.budget_s = 2.0
    raise ValueError("first\\nsecond")

def pytest_cutover_verdict(check):
    pytest.exit("stop")

def pytest_cutover_report():
    time.sleep(3600)
"""
ANYWAY = "the release does not depend on it"


def follow(project: Project, text: str, name: str = "follower") -> None:
    """Write a plugin that a session loads with `-p NAME`."""
    (project.folder / f"{name}.py").write_text(text)


def told(project: Project) -> list[list[Any]]:
    """What the plugin was given, in order, without the name of the thread."""
    rows = [json.loads(line) for line in (project.folder / "told.jsonl").read_text().splitlines()]
    assert {row[0] for row in rows} == {"cutover-hooks"}
    return [row[1:] for row in rows]


def test_a_plugin_follows_a_session(project: Project) -> None:
    """Stages and verdicts come as they happen, then the end, then the complete report; the values are copies."""
    project.test(GOOD)
    follow(project, FOLLOWER)
    done = project.run("-p", "follower")
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout
    rows = told(project)
    assert ["stage", "smoke[green]", "yes", True] in rows
    assert [row[2:] for row in rows if row[0] == "verdict" and row[1].startswith("gate/")] == [
        ["test_good", "yes", "passed"]
    ]
    assert [row[:2] for row in rows[-2:]] == [["end", "RELEASED"], ["report", "RELEASED"]]
    assert {"report.html", "junit.xml", "evidence.jsonl"} <= set(rows[-1][2])
    (evidence,) = (project.folder / "reports").glob("2*/evidence.jsonl")
    assert "planted" not in evidence.read_text()


def test_the_plugin_of_the_manual_works(project: Project) -> None:
    """The first block of docs/plugins.md is a plugin that logs failed checks and the end."""
    page = (REPOSITORY / "docs/plugins.md").read_text()
    project.test(BAD)
    follow(project, page.split("```python", 1)[1].split("\n", 1)[1].split("```", 1)[0], "release_log")
    done = project.run("-p", "release_log")
    assert done.returncode == 1, done.stdout
    log = (project.folder / "releases.log").read_text().splitlines()
    assert log == ["green: answer: got 41", "trap: ROLLED BACK, exit 1"]


def test_values_are_masked(project: Project) -> None:
    """A plugin may send them anywhere, so a secret of an env file is not in them."""
    with (project.folder / ".env.green").open("a") as out:
        out.write("API_TOKEN=correct-horse-7\n")
    project.test(BAD.replace("got 41", "got correct-horse-7"))
    follow(project, FOLLOWER)
    done = project.run("-p", "follower")
    assert done.returncode == 1, done.stdout
    rows = told(project)
    assert ["answer", "no", "got ***"] in [row[2:] for row in rows]
    assert rows[-2] == ["end", "ROLLED BACK", 1]
    assert "correct-horse" not in json.dumps(rows)


@pytest.mark.parametrize(("test", "code"), [(GOOD, 0), (BAD, 1)])
def test_a_hook_that_fails_changes_no_verdict(project: Project, test: str, code: int) -> None:
    """An error, an exit and a hang are one line each; the exit code is that of the checks, other plugins go on."""
    project.test(test)
    follow(project, FOLLOWER)
    follow(project, BROKEN, "broken")
    done = project.run("-p", "broken", "-p", "follower")
    assert done.returncode == code, done.stdout
    assert project.mark.exists() == (code == 0)
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("warning: ")) == [
        f"warning: pytest_cutover_report of the plugin broken has not returned after 2 s; {ANYWAY}",
        f"warning: pytest_cutover_stage of the plugin broken failed: ValueError: first second; {ANYWAY}",
        f"warning: pytest_cutover_verdict of the plugin broken failed: Exit: stop; {ANYWAY}",
    ]
    assert {"stage", "verdict", "end"} <= {row[0] for row in told(project)}


def test_other_sessions_may_have_the_hooks(project: Project) -> None:
    """A conftest may implement them also where pytest runs without a target."""
    (project.folder / "unit").mkdir()
    (project.folder / "unit/conftest.py").write_text("def pytest_cutover_end(result):\n    raise OSError\n")
    (project.folder / "unit/test_unit.py").write_text("def test_unit():\n    pass\n")
    words = [each for each in project.words() if each not in {"gate", "--target=green"}]
    done = subprocess.run(
        (*words, "unit"), cwd=project.folder, env=project.environment(), capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_example_makes_a_trace(project: Project) -> None:
    """One trace: a span of the release, and below it one for each stage and each verdict, with times and status."""
    project.test(BAD)
    follow(project, SPANS, "spans")
    done = project.run("-p", "spans", "-p", "examples.opentelemetry_plugin")
    assert done.returncode == 1, done.stdout
    assert "warning" not in done.stdout
    spans = json.loads((project.folder / "spans.json").read_text())
    (release,) = [each for each in spans if each["name"] == "release"]
    assert release["attributes"] == {
        "cutover.project": "trap", "cutover.status": "ROLLED BACK", "cutover.exit_code": 1,
    }  # fmt: skip
    assert {each["context"]["trace_id"] for each in spans} == {release["context"]["trace_id"]}
    below = {each["name"]: each for each in spans if each["parent_id"] == release["context"]["span_id"]}
    assert len(below) >= 3
    assert {"smoke[green]", "undo", "answer"} <= below.keys()
    answer = below["answer"]
    assert answer["status"] == {"status_code": "ERROR", "description": "got 41"}
    assert answer["attributes"]["cutover.test"] == "gate/test_gate.py::test_bad[green]"
    assert release["start_time"] <= answer["start_time"] <= answer["end_time"] <= release["end_time"]

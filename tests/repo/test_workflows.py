"""Checks of the workflows that run without GitHub."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cutover
from tests.helpers import workflows

NAMES = sorted(path.name for path in workflows.FOLDER.iterdir())
BIN = str(Path(sys.executable).parent)


def tool(name: str) -> str:
    """Path of a linter from the extra dev."""
    found = shutil.which(name, path=BIN)
    assert found, f"{name} is missing: it is in the extra dev"
    return found


def test_zizmor_finds_nothing() -> None:
    """zizmor reports nothing, offline."""
    argv = (tool("zizmor"), "--offline", "--no-progress", str(workflows.FOLDER))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_is_pinned_and_may_do_nothing_by_default(name: str) -> None:
    """Actions are pinned to a commit, jobs declare permissions, and no expression is inserted into shell code."""
    workflow = workflows.read(name)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert "permissions" in job
        assert "uses" in job or "timeout-minutes" in job
    used = re.findall(r"^\s+(?:- )?uses: (\S+)", (workflows.FOLDER / name).read_text(), re.MULTILINE)
    assert [each for each in used if not re.fullmatch(r"\./\S+|[\w-]+/[\w-]+@[0-9a-f]{40}", each)] == []
    assert [step["name"] for step in workflows.steps(workflow) if "${{" in str(step.get("run"))] == []


@pytest.mark.parametrize("name", NAMES)
def test_its_shell_is_clean(name: str) -> None:
    """shellcheck reports nothing for the `run` lines of the steps."""
    for step in workflows.steps(workflows.read(name)):
        if "run" in step:
            argv = (tool("shellcheck"), "--shell=bash", "--exclude=SC2029", "-")
            done = subprocess.run(argv, input=step["run"], capture_output=True, text=True, check=False)
            assert done.stdout == "", step["name"]


def test_recover_runs_on_the_server_whatever_ended_the_session() -> None:
    """An open release is reverted, and the report is fetched and kept after the key is deleted."""
    steps = workflows.steps(workflows.read("session.yml"))
    always = [step["name"] for step in steps if step.get("if") == "always()"]
    assert always == [
        "Revert what a dead session left open",
        "Fetch the report",
        "Forget the key",
        "Unpack the report",
        "Keep the report",
    ]


def test_a_planted_link_reads_no_file_of_the_runner(tmp_path: Path) -> None:
    """A link in the report of a hostile server is deleted before the report is uploaded."""
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "report.html").write_text("report")
    (tmp_path / "planted" / "link").symlink_to("/etc/hostname")
    subprocess.run(("tar", "-C", "planted", "-cf", "reports.tar", "."), cwd=tmp_path, check=True)
    script = workflows.lines(workflows.read("session.yml"), "Unpack the report")
    env = {"PATH": "/usr/bin:/bin", "REPORT": "ci-1", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    subprocess.run(("bash", "-e", "-c", script), cwd=tmp_path, env=env, check=True, timeout=60)
    assert [path.name for path in (tmp_path / "reports" / "ci-1").iterdir()] == ["report.html"]


@pytest.mark.parametrize("name", NAMES)
def test_installs_only_packages_with_a_hash(name: str) -> None:
    """Every pip command either checks hashes or installs the checkout without dependencies."""
    run = "\n".join(str(step.get("run", "")) for step in workflows.steps(workflows.read(name)))
    commands = re.findall(r'pip"? install (.*)', run)
    assert [each for each in commands if "--require-hashes" not in each and "--no-deps" not in each] == []


def test_the_approved_release_is_the_one_that_was_verified() -> None:
    """Both sessions get the tag that was built, and only the second one requires approval."""
    jobs = workflows.read("release.yml")["jobs"]
    tag = "${{ needs.build.outputs.tag }}"
    assert [jobs[name]["with"]["tag"] for name in ("idle", "switch")] == [tag, tag]
    assert jobs["switch"]["needs"] == ["build", "idle"]
    assert jobs["switch"]["with"]["environment"] == "${{ inputs.environment }}"


def test_this_project_releases_by_its_own_workflow() -> None:
    """This project uses the reusable workflows, and only the ticket job may write to tickets."""
    jobs = workflows.read("own.yml")["jobs"]
    used = {name: job["uses"].split(" ")[0] for name, job in jobs.items()}
    assert used == {"release": "./.github/workflows/release.yml", "ticket": "./.github/workflows/ticket.yml"}
    write = {"issues": "write", "pull-requests": "write"}
    assert jobs["ticket"]["permissions"] == {"contents": "read", **write}
    others = [
        job for name in NAMES for job in workflows.read(name)["jobs"].values() if job.get("name") != "ticket"
    ]
    assert not any(write.keys() & job["permissions"].keys() for job in others)
    given = jobs["release"]["with"] | jobs["ticket"]["with"]
    assert (workflows.ROOT / given["dockerfile"]).is_file()
    assert (workflows.ROOT / given["requirements"]).is_file()


def test_a_called_workflow_knows_its_inputs() -> None:
    """Each input and secret that a caller passes is declared in the called workflow."""
    for name in NAMES:
        for job in workflows.read(name)["jobs"].values():
            if "uses" in job:
                called = workflows.read(Path(job["uses"].split(" ")[0]).name)["on"]["workflow_call"]
                assert set(job.get("with", {})) <= set(called["inputs"])
                assert set(job.get("secrets", {})) <= set(called.get("secrets", {}))


def test_the_ticket_gets_the_result_of_the_last_session(tmp_path: Path) -> None:
    """The report with the latest start time is attached."""
    for folder in (
        "ci-1-1-idle/20261126T010000Z-idle-sha-1",
        "ci-1-1-switch/20261126T020000Z-idle-sha-1",
        "ci-1-1-a/x",
    ):
        (tmp_path / "fetched" / folder).mkdir(parents=True)
    said = tmp_path / "venv/bin/cutover"
    said.parent.mkdir(parents=True)
    said.write_text('#!/bin/sh\necho "$@"\n')
    said.chmod(0o755)
    done = subprocess.run(
        ("bash", "-e", "-c", workflows.lines(workflows.read("ticket.yml"), "Comment on the ticket")),
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "RUNNER_TEMP": str(tmp_path), "TICKET": "https://t.example/1"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    last = "fetched/ci-1-1-switch/20261126T020000Z-idle-sha-1"
    assert done.stdout == f"report comment {last} --ticket https://t.example/1\n"


@pytest.mark.parametrize(
    ("tag", "repository", "code"),
    [
        (f"v{cutover.__version__}", "pytest-cutover/pytest-cutover", 0),
        ("v9.9.9", "pytest-cutover/pytest-cutover", 1),
        (f"v{cutover.__version__}", "fork/pytest-cutover", 1),
    ],
)
def test_publishes_only_what_the_package_says(tag: str, repository: str, code: int) -> None:
    """The tag of a release is the version of the package, and the repository is that of its URLs."""
    script = workflows.lines(workflows.read("publish.yml"), "Compare the release with the package")
    env = {
        "PATH": f"{BIN}:/usr/bin:/bin", "GITHUB_REF_NAME": tag, "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": repository,
    }  # fmt: skip
    done = subprocess.run(("bash", "-e", "-c", script), cwd=workflows.ROOT, env=env, check=False, timeout=60)
    assert done.returncode == code


def test_publishes_without_a_stored_token() -> None:
    """The job that uploads to PyPI proves its identity, runs nothing of the checkout, and attests what it uploads."""
    workflow = workflows.read("publish.yml")
    jobs = workflow["jobs"]
    assert "secrets" not in (workflows.FOLDER / "publish.yml").read_text()
    assert jobs["build"]["permissions"] == {"contents": "read"}
    assert jobs["package"]["permissions"] == {"id-token": "write"}
    assert jobs["package"]["environment"] == "pypi"
    assert [step for step in jobs["package"]["steps"] if "run" in step] == []
    assert jobs["package"]["steps"][-1]["with"] == {"attestations": "true"}


def test_only_one_step_gets_the_key() -> None:
    """Only the step that stores the deploy key has it in its environment."""
    steps = workflows.steps(workflows.read("session.yml"))
    assert [step["name"] for step in steps if "DEPLOY_KEY" in step.get("env", {})] == ["Configure ssh"]

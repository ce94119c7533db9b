"""The snippets of docs/elsewhere.md, read from the page and run on a real service with a right and a wrong tag."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.color_servers import free_port
from tests.helpers.http_service import release_answer, serving

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/elsewhere.md").read_text(encoding="utf-8")
SERVED = "sha-2"
OUTCOMES = {"the right release": 0, "another release": 1, "a service that is not there": 10}
# The names of the published schemas: AnalysisTemplate and Rollout of Argo Rollouts, Job of Kubernetes, Canary of Flagger.
FIELDS = {
    "analysis.yaml": {
        "apiVersion", "kind", "metadata", "name", "spec", "args", "metrics", "provider", "job", "backoffLimit",
        "activeDeadlineSeconds", "template", "restartPolicy", "containers", "image", "workingDir",
    },
    "rollout.yaml, below spec.strategy": {
        "blueGreen", "activeService", "previewService", "prePromotionAnalysis", "templates", "templateName", "args",
        "name", "value",
    },
    "canary.yaml, below spec.analysis": {"webhooks", "name", "type", "url", "timeout", "metadata", "cmd"},
}  # fmt: skip


def snippet(title: str) -> str:
    """The code block of the page with this title."""
    found = re.search(rf'^```\w+ title="{re.escape(title)}"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"docs/elsewhere.md has no block {title!r}"
    return found[1]


def keys_of(value: Any) -> set[str]:
    """Every key in *value*, at every depth."""
    if isinstance(value, dict):
        return {*map(str, value)}.union(*(keys_of(each) for each in value.values()))
    return set().union(*(keys_of(each) for each in value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("title", FIELDS)
def test_names_of_the_yaml_are_published_ones(title: str) -> None:
    """Each YAML snippet parses, and has no field that the schema of its engine does not have."""
    assert keys_of(yaml.safe_load(snippet(title))) == FIELDS[title]


@pytest.fixture
def url() -> Iterator[str]:
    """URL of a service that is ready and says which release it is."""
    with serving(release_answer(SERVED)) as service:
        yield service.url


@pytest.fixture(params=OUTCOMES)
def case(request: pytest.FixtureRequest, url: str) -> tuple[str, str, int]:
    """URL, expected tag, and the exit code of a gate with both."""
    gone = request.param == "a service that is not there"
    tag = "sha-3" if request.param == "another release" else SERVED
    return f"http://127.0.0.1:{free_port()}" if gone else url, tag, OUTCOMES[request.param]


@pytest.fixture
def called(tmp_path: Path) -> Callable[[], list[str]]:
    """What was run by the programs that are not here, `nomad` and `kamal`: they only note their arguments."""
    (tmp_path / "bin").mkdir()
    for name in ("nomad", "kamal"):
        program = tmp_path / "bin" / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/called\ncase $* in *-latest*) echo d1 ;; esac\n'
        )
        program.chmod(0o755)
    return lambda: (tmp_path / "called").read_text().splitlines() if (tmp_path / "called").exists() else []


def run(folder: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run *argv* in *folder* as the engine would; the wheel's `cutover.smoke` is `smoke/` in a checkout."""
    path = f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CUTOVER_", "PYTEST_"))}
    words = [each.replace("--pyargs cutover.smoke", f"{ROOT}/smoke") for each in argv]
    return subprocess.run(
        words, cwd=folder, env=kept | {"PATH": path} | environment, text=True, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip


def test_command_of_the_page(case: tuple[str, str, int], tmp_path: Path) -> None:
    """The first command of the page exits with 0, 1 or 10."""
    url, tag, code = case
    line = next(line for line in PAGE.splitlines() if line.startswith("pytest --pyargs"))
    done = run(
        tmp_path, "sh", "-c", line.replace("https://shop.example.com", url).replace("=sha-2", f"={tag}")
    )
    assert done.returncode == code, done.stdout + done.stderr


def test_job_of_argo(case: tuple[str, str, int], tmp_path: Path) -> None:
    """The arguments of the Job's container, with the argument `tag` of the Rollout, exit with 0 for a pass only."""
    url, tag, code = case
    job = yaml.safe_load(snippet("analysis.yaml"))["spec"]["metrics"][0]["provider"]["job"]["spec"]
    given = yaml.safe_load(snippet("rollout.yaml, below spec.strategy"))["blueGreen"]["prePromotionAnalysis"]
    assert given["args"] == [{"name": "tag", "value": SERVED}]
    words = job["template"]["spec"]["containers"][0]["args"]
    argv = [each.replace("{{args.tag}}", tag).replace("http://shop-preview:8000", url) for each in words]
    done = run(tmp_path, "sh", "-c", shlex.join(argv))
    assert done.returncode == code, done.stdout + done.stderr
    assert job["backoffLimit"] == 0


def test_webhook_of_flagger(case: tuple[str, str, int], tmp_path: Path) -> None:
    """The load tester runs the command by `bash -c`; 0 is its status 200, everything else 500."""
    url, tag, code = case
    (hook,) = yaml.safe_load(snippet("canary.yaml, below spec.analysis"))["webhooks"]
    command = (
        hook["metadata"]["cmd"].replace("http://shop-canary.shop:8000", url).replace("=sha-2", f"={tag}")
    )
    done = run(tmp_path, "bash", "-c", command)
    assert done.returncode == code, done.stdout + done.stderr
    assert hook["metadata"]["type"] == "bash"


def test_script_of_nomad(case: tuple[str, str, int], tmp_path: Path, called: Callable[[], list[str]]) -> None:
    """The deployment is promoted after a pass, else failed, and the script ends with the code of the gate."""
    url, tag, code = case
    script = snippet("release.sh").replace("http://canary.shop.service.consul:8000", url)
    script = script.replace("=sha-2", f"={tag}").replace("--retry 60", "--retry 0")
    done = run(tmp_path, "sh", "-c", script)
    ends = (
        ["nomad job promote -detach shop"]
        if code == 0
        else ["nomad job deployments -latest -t {{.ID}} shop", "nomad deployment fail -detach d1"]
    )
    assert called() == ["nomad job run -detach shop.nomad.hcl", *ends]
    assert done.returncode == code, done.stdout + done.stderr


def test_hook_of_kamal(case: tuple[str, str, int], tmp_path: Path, called: Callable[[], list[str]]) -> None:
    """A version that passed is noted; another one is rolled back to it, and the hook fails."""
    url, tag, code = case
    (tmp_path / ".kamal").mkdir()
    verified = tmp_path / ".kamal" / "verified.production"
    verified.write_text("sha-1\n")
    hook = snippet(".kamal/hooks/post-deploy").replace("https://shop.example.com", url)
    kamal = {"KAMAL_VERSION": tag, "KAMAL_COMMAND": "deploy", "KAMAL_DESTINATION": "production"}
    done = run(tmp_path, "sh", "-c", hook, **kamal)
    assert done.returncode == code, done.stdout + done.stderr
    assert called() == ([] if code == 0 else ["kamal rollback --destination=production sha-1"])
    assert verified.read_text() == (f"{SERVED}\n" if code == 0 else "sha-1\n")


def test_hook_of_kamal_ends_a_rollback(url: str, tmp_path: Path, called: Callable[[], list[str]]) -> None:
    """A rollback that does not pass either is not rolled back again."""
    (tmp_path / ".kamal").mkdir()
    (tmp_path / ".kamal" / "verified").write_text("sha-1\n")
    hook = snippet(".kamal/hooks/post-deploy").replace("https://shop.example.com", url)
    done = run(tmp_path, "sh", "-c", hook, KAMAL_VERSION="sha-1", KAMAL_COMMAND="rollback")
    assert done.returncode == 1, done.stdout + done.stderr
    assert called() == []


@pytest.mark.parametrize("title", ["release.sh", ".kamal/hooks/post-deploy"])
def test_shellcheck_finds_nothing(title: str) -> None:
    """The scripts of the page are portable."""
    tool = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        (tool, "--shell=sh", "-"),
        input=snippet(title),
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout

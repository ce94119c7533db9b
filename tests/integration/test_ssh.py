"""The steps of .github/workflows/session.yml, run against a server with sshd and its own engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from examples import releases
from tests.helpers import workflows
from tests.helpers.ssh_server import Server, Wanted, answers, server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

REPO = "recall-ssh/api"
FIRST, GOOD, LATE, BAD, NEXT = "sha-5500001", "sha-5500002", "sha-5500003", "sha-5500004", "sha-5500005"
CANARY = "canary-of-the-pull-token"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Iterator[Server]:
    """A server set up by the document, with a first release on blue."""
    for tag in (FIRST, GOOD, LATE, NEXT):
        releases.build(tag, repo=REPO)
    releases.build(BAD, "wrong-version", repo=REPO)
    images = [f"{REPO}:{tag}" for tag in (FIRST, GOOD, LATE, BAD, NEXT)]
    with server(tmp_path_factory.mktemp("server"), wheels, Wanted(REPO, FIRST, images)) as made:
        made.run(f"scripts/deploy/server_deploy.sh --image-tag {FIRST}")
        yield made


@dataclass(frozen=True)
class Runner:
    """A GitHub runner with its folders and one job."""

    folder: Path
    environment: dict[str, str]

    def start(self, step: str, **more: str) -> subprocess.Popen[str]:
        """Start the `run:` lines of the step *step* in the runner's shell."""
        text = workflows.lines(workflows.read("session.yml"), step)
        return subprocess.Popen(
            ("bash", "-e", "-c", text),
            cwd=self.folder,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, step: str, **more: str) -> tuple[int, str]:
        """Run a step; return exit code and output."""
        process = self.start(step, **more)
        said, _ = process.communicate(timeout=900)
        return process.returncode, said

    def release(self, script: str, tag: str, target: str = "") -> tuple[int, str]:
        """Run the steps of one job; return exit code and output of the session."""
        assert self.run("Configure ssh") == (0, "")
        code, said = self.run("Run the session", SCRIPT=script, TARGET=target, TAG=tag)
        recovered, last = self.run("Revert what a dead session left open")
        assert recovered == 0, last
        self.fetch_report()
        return code, said

    def fetch_report(self) -> None:
        """Run the steps that fetch the report; the key is deleted before a file of the server is unpacked."""
        for step in ("Fetch the report", "Forget the key", "Unpack the report"):
            code, said = self.run(step)
            assert code == 0, said

    @property
    def report(self) -> Path:
        """Folder of the fetched report."""
        return self.folder / "reports" / self.environment["REPORT"]


@pytest.fixture
def runner(web: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Runner:
    """A runner whose key is authorized on the server."""
    key = tmp_path / "key"
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)), check=True)
    public = key.with_suffix(".pub").read_text()
    web.run(f"cat >> /home/deploy/.ssh/authorized_keys <<'END'\n{public}END\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "RUNNER_TEMP": str(tmp_path / "temp"),
        "GITHUB_ACTOR": "ana",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "REPORT": f"ci-1-1-{request.node.name[:20]}",
        "DEPLOY_HOST": "127.0.0.1",
        "DEPLOY_PORT": str(web.port),
        "DEPLOY_USER": "deploy",
        "DEPLOY_KEY": key.read_text(),
        "DEPLOY_KNOWN_HOSTS": f"[127.0.0.1]:{web.port} {web.host_key}",
        "DEPLOY_PATH": "/srv/recall",
        "GHCR_HOST": "ghcr.io",
        "GHCR_USERNAME": "ana",
        "GHCR_TOKEN": CANARY,
        "CUTOVER": ".venv/bin/cutover",
    }
    made = Runner(tmp_path, environment)
    assert made.run("Configure ssh") == (0, "")
    return made


def live(web: Server) -> str:
    """The tag that the server's proxy serves."""
    return web.run("curl --silent http://127.0.0.1:8080/version").split('"version":"')[1].split('"')[0]


def test_refuses_a_server_that_it_does_not_know(web: Server, runner: Runner) -> None:
    """A different host key ends the job before a command is sent."""
    before = web.run("ls /var/lib/cutover/recall")
    stranger = web.host_key[:-8] + "AAAAAAAA"
    runner.run("Configure ssh", DEPLOY_KNOWN_HOSTS=f"[127.0.0.1]:{web.port} {stranger}")
    code, said = runner.run("Run the session", SCRIPT="scripts/deploy/cutover.sh", TARGET="", TAG=GOOD)
    assert code == 255
    assert "Host key verification failed" in said
    assert web.run("ls /var/lib/cutover/recall") == before


def test_a_release_goes_from_the_idle_color_to_the_users(web: Server, runner: Runner) -> None:
    """The first job verifies the release on the idle color, the second one switches; both fetch report and summary."""
    before = live(web)
    code, said = runner.release("scripts/deploy/server_deploy.sh", GOOD, target="idle")
    assert (code, live(web)) == (0, before), said
    code, said = runner.release("scripts/deploy/cutover.sh", GOOD)
    assert (code, live(web)) == (0, GOOD), said
    assert f"RELEASED  recall runs {GOOD}" in said
    assert len(list(runner.report.glob("*/report.html"))) >= 2
    assert GOOD in (runner.folder / "summary.md").read_text()
    assert CANARY not in said + "".join(
        path.read_text(errors="replace") for path in runner.report.rglob("*") if path.is_file()
    )


def test_a_bad_release_ends_the_job_and_its_report_comes_home(web: Server, runner: Runner) -> None:
    """The job exits with the session's code, users are not affected, and the report has the reason."""
    before = live(web)
    code, said = runner.release("scripts/deploy/server_deploy.sh", BAD, target="idle")
    assert (code, live(web)) == (1, before), said
    assert "ROLLED BACK" in said
    assert BAD in (runner.folder / "summary.md").read_text()
    assert len(list(runner.report.glob("*/report.html"))) >= 1


def test_a_cut_connection_leaves_nothing_half_done(web: Server, runner: Runner) -> None:
    """If ssh is killed, the next steps wait for the session to end and fetch a complete report."""
    before = live(web)
    session = runner.start(
        "Run the session", SCRIPT="scripts/deploy/server_deploy.sh", TARGET="idle", TAG=LATE
    )
    wait(lambda: session.poll() is not None or opened(web), "a release was opened")
    os.killpg(session.pid, signal.SIGKILL)
    session.communicate(timeout=60)
    assert opened(web), "the session ended before its connection was cut"
    code, said = runner.run("Revert what a dead session left open")
    assert (code, opened(web), free(web)) == (0, False, True), said
    runner.fetch_report()
    assert LATE in (runner.folder / "summary.md").read_text()
    assert len(list(runner.report.glob(f"2*-{LATE}/report.html"))) == 1
    assert live(web) == before
    assert "open   nothing" in web.run(".venv/bin/cutover status")
    assert '"event": "end"' in web.run("tail -n 1 /var/lib/cutover/recall/journal.jsonl")


def test_what_a_machine_went_down_in_is_reverted_by_its_unit(web: Server) -> None:
    """After a reboot the systemd unit, which passes systemd's verification, reverts the open release."""
    before = live(web)
    assert (
        web.run("systemd-analyze verify /etc/systemd/system/cutover-recover.service 2>&1", user="root") == ""
    )
    assert web.run("systemctl is-enabled cutover-recover.service", user="root") == "enabled\n"
    deploy = (
        f"scripts/deploy/server_deploy.sh --image-tag {BAD} --target idle"  # verified nowhere, so it opens
    )
    web.run(f"nohup setsid {deploy} >/tmp/said 2>&1 </dev/null &")
    wait(lambda: opened(web), "a release was opened")
    web.restart()
    assert opened(web)
    unit = "/etc/systemd/system/cutover-recover.service"
    said = web.run(
        f'set -- $(sed -n s/^ExecStart=//p {unit}); cd $(sed -n s/^WorkingDirectory=//p {unit}); exec "$@"'
    )
    assert not opened(web), said
    assert "open   nothing" in web.run(".venv/bin/cutover status")
    assert live(web) == before


# Last the one after which the engine keeps a port that nobody uses.
@pytest.mark.parametrize("moment", ["switch", pytest.param("up", marks=pytest.mark.slow)])
def test_an_engine_that_dies_in_a_release_leaves_one_release(web: Server, moment: str) -> None:
    """If the engine dies during deploy or watch, one color serves after its restart, and `status` names it."""
    before, journal = live(web), "/var/lib/cutover/recall/journal.jsonl"
    seen = len(web.run(f"cat {journal}").splitlines())
    deploy = f"scripts/deploy/cutover.sh --image-tag {NEXT} --watch=30s"
    web.run(f"rm -f /tmp/said; nohup setsid sh -c '{deploy}; echo exit $?' >/tmp/said 2>&1 </dev/null &")
    wait(lambda: change_began(web, moment, seen) or said(web), f"the {moment} began")
    assert change_began(web, moment, seen), said(web)
    # What publishes its ports may outlive it, and would keep them from the next one.
    kill = "pkill -KILL -x dockerd; pkill -KILL -x docker-proxy || :"
    web.run(f"touch /run/engine-stays-down; {kill}; sleep 3; rm /run/engine-stays-down", user="root")
    answers(web)
    # It stops what ran before, and starts nothing of it again: the shared parts are a person's to bring back.
    shared = "docker compose -f deploy/docker-compose.yml --env-file deploy/.env.deploy"
    web.run(f"{shared} up --detach --wait db cache ai")
    wait(lambda: "exit " in said(web) and not opened(web) and free(web), "the release is over")
    code = said(web).split()[-1]
    expected = NEXT if code == "0" else before
    wait(lambda: answered(web) == expected, f"{expected} serves after exit {code}: {said(web)}")
    assert code in {"0", "1", "10", "11"}, said(web)
    status = json.loads(web.run(".venv/bin/cutover status --json || :"))
    assert status["colors"][status["live"]]["tag"] == expected
    assert [status[each] for each in ("open", "releasing", "needs_operator")] == [None] * 3
    assert web.run("ls reports/latest/evidence.jsonl")
    assert ".html" in web.run(".venv/bin/cutover report html reports/latest")


def change_began(web: Server, name: str, after: int) -> bool:
    """Whether the journal after its first *after* lines has the start of the change *name*."""
    lines = web.run("cat /var/lib/cutover/recall/journal.jsonl").splitlines()[after:]
    return any((row.get("event"), row.get("change")) == ("do", name) for row in map(json.loads, lines))


def said(web: Server) -> str:
    """Output of the session once it has ended; empty before."""
    text = web.run("cat /tmp/said 2>/dev/null || :")
    return text if "\nexit " in text else ""


def answered(web: Server) -> str:
    """The tag that users get; empty if there is no response, as while the engine restarts the containers."""
    text = web.run("curl --silent --max-time 5 http://127.0.0.1:8080/version || :")
    return str(json.loads(text)["version"]) if text.startswith("{") else ""


def opened(web: Server) -> bool:
    """Whether a release is open on the server."""
    return web.run("test -s /var/lib/cutover/recall/open && echo yes || :") != ""


def free(web: Server) -> bool:
    """Whether the release lock on the server is free."""
    return web.run("flock -n /var/lib/cutover/recall/session.lock true && echo yes || :") != ""


def wait(until: object, what: str) -> None:
    """Poll *until* until it holds; fails after the deadline."""
    assert callable(until)
    deadline = time.monotonic() + 300
    while not until():
        assert time.monotonic() < deadline, f"not within 300 s: {what}"
        time.sleep(0.2)

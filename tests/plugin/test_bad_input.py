"""Bad input: one line that says what, where it came from and what is allowed; exit 4; nothing changed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cutover.plugin.options import OPTIONS
from tests.plugin.project import GOOD, Project

Break = Callable[[Project], None]


def toml(text: str, instead: str = "") -> Break:
    """Add *text* to cutover.toml, or replace *instead* by it."""

    def change(project: Project) -> None:
        path = project.folder / "cutover.toml"
        old = path.read_text()
        path.write_text(old.replace(instead, text) if instead else old + text)

    return change


def env(text: str, mode: int = 0o600) -> Break:
    """Make *text* green's env file."""

    def change(project: Project) -> None:
        path = project.folder / ".env.green"
        path.write_text(text)
        path.chmod(mode)

    return change


def latin_1(project: Project) -> None:
    """An env file that an old editor has written."""
    (project.folder / ".env.green").write_bytes(b"IMAGE_TAG=sha-1\nNAME=caf\xe9\nAPI_HTTP_PORT=18001\n")


def beside(project: Project) -> None:
    """A file that `docker compose up` would merge."""
    (project.folder / "docker-compose.override.yml").write_text("services: {api: {init: true}}\n")


def compose(text: str) -> Break:
    """Make *text* the Compose file."""

    def change(project: Project) -> None:
        (project.folder / "docker-compose.yml").write_text(text)

    return change


def gone(name: str) -> Break:
    """Take a file away."""

    def change(project: Project) -> None:
        (project.folder / name).unlink()

    return change


def cached(project: Project) -> None:
    """Let pytest remember what failed."""
    (project.folder / "pytest.ini").write_text("[pytest]\n")


def rerunning(project: Project) -> None:
    """A plugin with the option of pytest-rerunfailures."""
    text = "def pytest_addoption(parser):\n    parser.addoption('--reruns', type=int)\n"
    (project.folder / "rerunning.py").write_text(text)


def covering(project: Project) -> None:
    """A plugin with the options of pytest-cov."""
    text = (
        "def pytest_addoption(parser):\n    parser.addoption('--cov-fail-under', type=float)\n"
        "    parser.addoption('--no-cov', action='store_true')\n"
    )
    (project.folder / "covering.py").write_text(text)


def choosing(project: Project) -> None:
    """A conftest that takes out what it does not like."""
    project.test(GOOD + "def test_bad(target):\n    assert 0\n")
    with (project.folder / "gate" / "conftest.py").open("a") as conftest:
        conftest.write(
            "def pytest_collection_modifyitems(items):\n    items[:] = [each for each in items if 'bad' not in each.name]\n"
        )


def package(project: Project) -> None:
    """A checklist that is a package."""
    (project.folder / "team").mkdir()
    (project.folder / "team" / "__init__.py").touch()
    (project.folder / "team" / "test_team.py").write_text(GOOD)


def nothing(project: Project) -> None:
    """The command line alone is wrong."""
    del project


def state_dir(path: str) -> Break:
    """Let the state lie at *path*, beside the project; what is not below a folder cannot be made."""

    def change(project: Project) -> None:
        project.state.parent.mkdir()
        (project.state.parent / "file").write_text("")
        toml(str(project.state.parent / path), str(project.state))(project)

    return change


def old_compose(project: Project) -> None:
    """A Compose plugin from before `config --environment`, found where a user's own plugins lie."""
    plugin = project.folder / "docker" / "cli-plugins" / "docker-compose"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(OLD_COMPOSE)
    plugin.chmod(0o755)


def mute(project: Project) -> None:
    """An engine that accepts and never answers; its socket lives as long as this process."""
    path = project.folder / "no.sock"
    door = socket.socket(socket.AF_UNIX)
    door.bind(os.path.relpath(path))
    door.listen(100)
    DOORS.append(door)


DOORS: list[socket.socket] = []
OLD_COMPOSE = """\
#!/bin/sh
case "$*" in
docker-cli-plugin-metadata) echo '{"SchemaVersion":"0.1.0","Vendor":"test","Version":"v2.20.3"}' ;;
*version*) echo 2.20.3 ;;
*) echo "unknown flag: --environment" >&2; exit 16 ;;
esac
"""
TWO_VARIABLES = """\
services:
  api:
    image: none/api:${IMAGE_TAG:?}
    environment: {GREETING: "${GREETING}"}
    ports: ["127.0.0.1:${API_HTTP_PORT:?}:8000"]
"""

# what is wrong: (how, arguments, environment, what the line must say)
CASES: dict[str, tuple[Break, tuple[str, ...], dict[str, str], tuple[str, ...]]] = {
    "an unknown target": (nothing, ("--target=gren",), {}, ("unknown target 'gren'", "blue, green")),
    "two targets of a deploy": (nothing, ("--target=blue", "--deploy=sha-2"), {}, ("exactly one --target",)),
    "a tag with a space": (nothing, ("--deploy=two words",), {}, ("--deploy: 'two words' is no image tag", "1 to 128 letters")),
    "a tag with a quote": (nothing, ("--deploy=a'b",), {}, ("is no image tag",)),
    "a tag with a variable": (nothing, ("--deploy=$TAG",), {}, ("'$TAG' is no image tag",)),
    "a tag with a newline": (nothing, ("--deploy=a\nb",), {}, ("'a\\nb' is no image tag",)),
    "a tag with an escape code": (nothing, ("--deploy=a\x1b[31m",), {}, ("'a\\x1b[31m' is no image tag",)),
    "a tag of 300 characters": (nothing, ("--deploy=" + "x" * 300,), {}, ("and 240 more characters is no image tag",)),
    "a repository in upper case": (
        compose("services: {api: {image: 'None/Api:${IMAGE_TAG:?}', ports: ['127.0.0.1:${API_HTTP_PORT:?}:80']}}"),
        ("--deploy=sha-2",), {}, ("service 'api': 'None/Api' is no image repository",),
    ),
    "an image whose tag is written out": (
        compose("services: {api: {image: 'none/api:2.8.1', ports: ['127.0.0.1:${API_HTTP_PORT:?}:80']}}"),
        ("--deploy=sha-2",), {}, ("the tag of none/api:2.8.1 is written out", "image: none/api:${IMAGE_TAG:?}"),
    ),
    "an env file that is not UTF-8": (latin_1, ("--deploy=sha-2",), {}, (".env.green: line 2: byte 0xe9 is not UTF-8",)),
    "an override file beside the compose file": (
        beside, ("--deploy=sha-2",), {}, ("docker-compose.override.yml: docker compose merges it", "compose_overrides = []"),
    ),
    "an engine behind SSH": (
        nothing, ("--deploy=sha-2",), {"DOCKER_HOST": "ssh://ana@web-1"}, ("the engine at ssh://ana@web-1 is on another host",),
    ),
    "a service with an inactive profile": (
        compose("services: {api: {image: 'none/api:${IMAGE_TAG:?}', profiles: [prod]}}"), (), {},
        ("service 'api' has profiles prod, and none of them is active", "COMPOSE_PROFILES=prod"),
    ),
    **{
        f"an empty value of {name}": (nothing, (f"{name}=",), {}, (f"{name} needs a value: it is empty",))
        for name, value, _ in OPTIONS
        if value
    },
    "a blank value": (nothing, ("--hold= ",), {}, ("--hold needs a value: it is empty",)),
    "a tag that moves": (nothing, ("--deploy=latest",), {}, ("IMAGE_TAG=latest is not pinned", "sha-<commit>")),
    "no watch's unit": (nothing, ("--watch=15",), {}, ("--watch", "unit")),
    "-k with a deploy": (nothing, ("--deploy=sha-2", "-k", "good"), {}, ("-k with --deploy",)),
    "-m with a deploy": (nothing, ("--deploy=sha-2", "-m", "engine"), {}, ("-m with --deploy",)),
    "--deselect with a deploy": (nothing, ("--deploy=sha-2", "--deselect=gate/test_gate.py"), {}, ("--deselect with --deploy",)),
    "--ignore with a deploy": (nothing, ("--deploy=sha-2", "--ignore=gate/x"), {}, ("--ignore with --deploy",)),
    "--ignore-glob with a deploy": (nothing, ("--deploy=sha-2", "--ignore-glob=*x*"), {}, ("--ignore-glob with --deploy",)),
    "-o that chooses files": (nothing, ("--deploy=sha-2", "-o", "python_files=test_gate.py"), {}, ("-o python_files with --deploy",)),
    "-o that chooses functions": (nothing, ("--deploy=sha-2", "-o", "python_functions=test_good"), {}, ("-o python_functions with --deploy",)),
    "-o that adds options": (nothing, ("--deploy=sha-2", "-o", "addopts=-k good"), {}, ("-k with --deploy",)),
    "--noconftest with a deploy": (nothing, ("--deploy=sha-2", "--noconftest"), {}, ("--noconftest with --deploy",)),
    "--setup-only with a deploy": (nothing, ("--deploy=sha-2", "--setup-only"), {}, ("--setup-only with --deploy",)),
    "--lf with a deploy": (cached, ("--deploy=sha-2", "--lf"), {}, ("--lf with --deploy",)),
    "--ff with a deploy": (cached, ("--deploy=sha-2", "--ff"), {}, ("--ff with --deploy",)),
    "--sw with a deploy": (cached, ("--deploy=sha-2", "--sw"), {}, ("--sw with --deploy",)),
    "--sw-skip with a deploy": (cached, ("--deploy=sha-2", "--sw-skip"), {}, ("--sw-skip with --deploy",)),
    "--reruns with a deploy": (rerunning, ("--deploy=sha-2", "--reruns=2", "-p", "rerunning"), {}, ("--reruns with --deploy",)),
    "-n with a deploy": (nothing, ("--deploy=sha-2", "-p", "xdist", "-n2"), {}, ("-n is not for a release",)),
    "a limit of coverage": (covering, ("-p", "covering", "--cov-fail-under=90"), {}, ("--cov-fail-under", "add --no-cov")),
    "-n without coverage": (
        covering, ("--deploy=sha-2", "-p", "covering", "-p", "xdist", "-n2", "--no-cov"), {}, ("-n is not for a release",),
    ),
    "-n with a gate": (nothing, ("-p", "xdist", "-n2"), {}, ("-n is not for a release",)),
    "a conftest that deselects": (choosing, ("--deploy=sha-2",), {}, ("1 check deselected by a plugin or a conftest", "test_bad")),
    "a module with a deploy": (package, ("--pyargs", "team.test_team", "--deploy=sha-2"), {}, ("team.test_team with --deploy",)),
    "a node id with a deploy": (nothing, ("gate/test_gate.py::test_good", "--deploy=sha-2"), {}, ("test_good with --deploy",)),
    "a single file with a deploy": (nothing, ("gate/test_gate.py", "--deploy=sha-2"), {}, ("gate/test_gate.py with --deploy",)),
    "a switch without a proxy": (nothing, ("--switch",), {}, ("--switch",)),
    "malformed TOML": (toml("project = [\n", 'project = "trap"\n'), (), {}, ("not valid TOML",)),
    "no cutover.toml": (gone("cutover.toml"), (), {}, ("no cutover.toml", "--cutover-config")),
    "another cutover.toml that is not there": (nothing, ("--cutover-config=none.toml",), {}, ("none.toml: no such file",)),
    "an unknown key": (toml("[gate]\nmin_health = '5s'\n"), (), {}, ("unknown key 'gate.min_health'", "min_uptime")),
    "a wrong type": (toml("[gate]\nsamples = 'many'\n"), (), {}, ("gate.samples", "many")),
    "a duration without a unit": (toml("[gate]\nmin_uptime = 5\n"), (), {}, ("gate.min_uptime", "unit")),
    "a wrong unit": (toml("[gate]\nmin_uptime = '5 parsecs'\n"), (), {}, ("gate.min_uptime", "ms, s, m, h, d")),
    "an unknown color": (toml("[colors.red]\nenv_file = '.env.red'\n"), (), {}, ("unknown color 'red'", "blue, green")),
    "an unknown driver": (toml("[proxy]\ndriver = 'varnish'\n"), (), {}, ("proxy.driver", "nginx")),
    "a writing endpoint that does not say so": (
        toml("[[endpoints]]\npath = '/x'\nmethod = 'POST'\n"), (), {}, ("POST /x changes something", "writes = true"),
    ),
    "a missing env file": (gone(".env.green"), (), {}, (".env.green: no such file", "colors.green.env_file")),
    "an expected tag of a release": (nothing, ("--deploy=sha-2", "--expect=sha-2"), {}, ("--expect with --deploy", "leave it out")),
    "an expected tag that is none": (nothing, ("--expect=-x",), {}, ("--expect", "is no image tag")),
    "an expected tag that nothing compares": (nothing, ("--expect=sha-2",), {}, ("--expect=sha-2", "compares the version")),
    "an expected tag with its check off": (
        toml('[checks]\noff = ["version"]\n'), ("--expect=sha-2",), {}, ('--expect=sha-2 with [checks] off = ["version"]',),
    ),
    "a watch of nothing": (nothing, ("--watch=0s",), {}, ("--watch=0s", "longer than 0s")),
    "hosts without a switch": (nothing, ("--on-hosts=all",), {}, ("--on-hosts needs --target=idle, --deploy=TAG",)),
    "hosts with another target": (
        nothing, ("--on-hosts=all", "--target=green", "--deploy=sha-2", "--switch"), {}, ("--on-hosts needs --target=idle",),
    ),
    "a hold of a gate": (nothing, ("--hold=30m",), {}, ("--hold needs --switch, or --deploy",)),
    "a hold without a unit": (nothing, ("--hold=30", "--deploy=sha-2"), {}, ("--hold", "unit")),
    "a hold of nothing": (nothing, ("--hold=0s", "--deploy=sha-2"), {}, ("--hold=0s", "longer than 0s")),
    "a hold that is shorter than the watch": (
        nothing, ("--switch", "--watch=5m", "--hold=2m"), {}, ("--hold of 2 min is shorter than the watch of 5 min",),
    ),
    "a hold that is kept on a failure": (
        nothing, ("--deploy=sha-2", "--hold=5m", "--keep-on-failure"), {}, ("--hold with --keep-on-failure",),
    ),
    "a watch of years": (nothing, ("--watch=10000d",), {}, ("--watch", "at most 30d")),
    "a watch longer than the guard waits": (
        toml('project = "trap"\nrelease_timeout = "11m"\n', 'project = "trap"\n'), ("--watch=12m",), {},
        ("--watch: a watch of 12 min", "release_timeout (11 min)"),
    ),
    "digits of another script": (nothing, ("--watch=\u0661\u0665s",), {}, ("--watch", "unit")),
    "a URL that is none": (nothing, ("--target=http://[::1",), {}, ("--target", "http://[::1", "is no URL")),
    "a port out of range": (nothing, ("--target=http://127.0.0.1:99999",), {}, ("--target", "99999", "range")),
    "a scheme that is not HTTP": (nothing, ("--target=ftp://127.0.0.1",), {}, ("--target", "http:// or https://")),
    "a state folder that is a file, of a plan": (
        state_dir("file"), ("--deploy=sha-2", "--plan"), {}, ("state_dir", "/file is a file"),
    ),
    "an unset variable": (env("API_HTTP_PORT=18001\n"), (), {}, ("IMAGE_TAG",)),
    "a placeholder": (
        env("IMAGE_TAG=sha-1\nAPI_HTTP_PORT=18001\nDATABASE_URL=postgresql://u:<password>@db/x\n"), ("--deploy=sha-2",), {},
        ("DATABASE_URL", "placeholder"),
    ),
    "an env file that others can read": (
        env("IMAGE_TAG=sha-1\nAPI_HTTP_PORT=18001\n", 0o644), ("--deploy=sha-2",), {}, ("can be read by others", "chmod 600"),
    ),
    "a data profile of a color": (
        env("IMAGE_TAG=sha-1\nAPI_HTTP_PORT=18001\nCOMPOSE_PROFILES=db\n"), ("--deploy=sha-2",), {}, ("its own empty db",),
    ),
    "a variable exported in the shell": (
        env("IMAGE_TAG=sha-1\nAPI_HTTP_PORT=18001\nLOG_LEVEL=info\n"), ("--deploy=sha-2",), {"LOG_LEVEL": "debug"},
        ("LOG_LEVEL is exported in this shell", "unset LOG_LEVEL"),
    ),
    "an invalid compose file": (compose("services:\n  api:\n    imag: x\n"), (), {}, ("docker compose config",)),
    "a missing compose file": (gone("docker-compose.yml"), (), {}, ("docker-compose.yml: no such file",)),
    "a variable that the env file lacks": (compose(TWO_VARIABLES), (), {}, (".env.blue: GREETING is not set",)),
    "a service that is not in the compose file": (
        toml("services = ['web']\n", 'reports = "reports"\n'), (), {}, ("services names 'web'", "has api"),
    ),
    "a state folder that cannot be made": (
        state_dir("file/trap"), ("--deploy=sha-2",), {}, ("state_dir", "file is a file"),
    ),
    "a state folder that is a file": (state_dir("file"), ("--deploy=sha-2",), {}, ("state_dir", "/file is a file")),
    "a state folder of the kernel": (
        nothing, ("--deploy=sha-2",), {"CUTOVER_STATE_DIR": "/proc/trap"}, ("state directory /proc/trap",),
    ),
    "Compose too old": (
        old_compose, ("--deploy=sha-2",), {"DOCKER_CONFIG": "docker"}, ("docker compose is 2.20.3: too old", "2.28"),
    ),
    "Compose too old for a gate": (old_compose, (), {"DOCKER_CONFIG": "docker"}, ("docker compose is 2.20.3",)),
    "an engine that accepts and never answers": (
        mute, ("--deploy=sha-2",), {}, ("the Docker engine", "does not answer", "timed out"),
    ),
    "an engine that does not answer": (nothing, ("--deploy=sha-2",), {}, ("the Docker engine at unix:", "no.sock does not answer")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line_and_exit_4(project: Project, name: str) -> None:
    """What cannot be done is said in one line, before anything is changed."""
    break_it, arguments, environment, said = CASES[name]
    project.test(GOOD)
    break_it(project)
    path = f"{project.folder}:{project.environment()['PYTHONPATH']}"
    done = project.run(*arguments, **{"PYTHONPATH": path, **environment})
    assert done.returncode == 4, done.stdout + done.stderr
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR: ")]
    assert len(lines) == 1, done.stdout + done.stderr
    for word in said:
        assert word in lines[0]
    assert "Traceback" not in done.stdout + done.stderr
    assert not project.mark.exists()
    assert not project.is_open


def test_no_target_is_never_a_silent_pass(project: Project) -> None:
    """A checklist without --target is exit 4, with the targets that may be named."""
    project.test(GOOD)
    import subprocess

    argv = [word for word in project.words() if word != "--target=green"]
    done = subprocess.run(
        argv,
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "no target: say --target=blue, green, live, idle or a URL" in done.stdout + done.stderr


@pytest.mark.parametrize("option", ["--deploy=sha-2", "--switch", "--plan"])
def test_an_option_that_releases_needs_a_target(project: Project, option: str) -> None:
    """Nothing is released to nowhere."""
    project.test(GOOD)
    import subprocess

    argv = [word for word in project.words(option) if word != "--target=green"]
    done = subprocess.run(
        argv,
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert option.split("=", maxsplit=1)[0] in done.stderr + done.stdout


def test_reports_that_cannot_be_written_are_refused(project: Project) -> None:
    """A release without evidence is none."""
    project.test(GOOD)
    toml('reports = "/proc/none"', 'reports = "reports"')(project)
    done = project.run()
    assert done.returncode == 4, done.stdout + done.stderr
    assert "cannot be written" in done.stdout + done.stderr
    assert not project.mark.exists()


def test_a_state_directory_in_the_checkout_is_refused(project: Project) -> None:
    """A CI's `git clean` would delete an open undo."""
    project.test(GOOD)
    (project.folder / ".git").mkdir()
    inside = project.folder / "state"
    done = project.run("--deploy=sha-2", CUTOVER_STATE_DIR=str(inside))
    assert done.returncode == 4, done.stdout + done.stderr
    assert "lies in the checkout" in done.stdout + done.stderr
    assert not inside.exists() or not (inside / "open").exists()


def test_a_state_directory_that_others_may_write_is_refused(project: Project, tmp_path: Path) -> None:
    """Whoever can write the undo can run anything as us."""
    project.test(GOOD)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    done = project.run("--deploy=sha-2", CUTOVER_STATE_DIR=str(shared))
    assert done.returncode == 4, done.stdout + done.stderr
    assert "not owned by this user alone" in done.stdout + done.stderr


@pytest.mark.parametrize("option", ["--deploy=\x1b[31msha-2", "--deploy=sha-2\x07"])
def test_no_escape_code_reaches_the_terminal(project: Project, option: str) -> None:
    """A tag with control characters is refused, and shown with them spelled out."""
    project.test(GOOD)
    done = project.run(option)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "is no image tag" in done.stdout + done.stderr
    assert not {"\x1b", "\x07"} & set(done.stdout + done.stderr)

"""Setup of a machine by scripts/test and scripts/demo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import noxfile
from scripts import engine, prepare, system


@pytest.mark.parametrize(
    ("version", "in_path", "broken", "found"),
    [
        ((3, 10, 14), {"python3.12", "python3.11"}, set(), "/bin/python3.12"),
        ((3, 10, 14), {"python3.12", "python3.11"}, {"python3.12"}, "/bin/python3.11"),
        ((3, 10, 14), {"python3.11"}, {"python3.11"}, None),
        ((2, 7, 18), set(), set(), None),
        ((3, 11, 0), {"python3.12"}, set(), sys.executable),
        ((4, 0, 0), set(), set(), sys.executable),
    ],
)
def test_finds_a_python_that_is_new_enough(
    version: tuple[int, ...], in_path: set[str], broken: set[str], found: str | None
) -> None:
    """The running Python if it is 3.11 or newer, else the newest in PATH that runs; a pyenv shim may not."""
    assert found == prepare.find_python(
        version,
        which=lambda name: f"/bin/{name}" if name in in_path else None,
        works=lambda path: Path(path).name not in broken,
    )


@pytest.mark.parametrize("changed", ["constraints.txt", "pyproject.toml"])
def test_reinstalls_only_for_changed_pins(tmp_path: Path, changed: str) -> None:
    """Equal pins give an equal stamp; changed pins change its second line, so that .venv is updated in place."""
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text("first\n", encoding="utf-8")
    before = prepare.wanted_stamp(tmp_path)
    assert prepare.wanted_stamp(tmp_path) == before
    (tmp_path / changed).write_text("second\n", encoding="utf-8")
    after = prepare.wanted_stamp(tmp_path)
    assert before.splitlines()[0] == after.splitlines()[0]
    assert before != after


@pytest.mark.parametrize(
    ("command", "arguments", "argv"),
    [
        ("test", ["-k", "a b"], ("-m", "pytest", "-k", "a b")),
        ("test", [], ("-m", "pytest", *prepare.WHOLE_RUN)),
        ("demo", ["--proxy=traefik"], ("-m", "examples.demo", "--proxy=traefik")),
    ],
)
def test_becomes_the_command(command: str, arguments: list[str], argv: tuple[str, ...]) -> None:
    """Arguments are passed on unchanged; pytest without arguments runs all tests, two files at a time."""
    assert prepare.final_argv(command, arguments) == (prepare.PYTHON, *argv)


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command installs nothing and exits with a usage error."""
    assert (prepare.main([]), prepare.main(["deploy"])) == (2, 2)
    assert capsys.readouterr().err.startswith("usage: python3 -m scripts.prepare")


def test_a_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A step prints its name and duration on one line, and that it failed if it did."""
    with system.step("engine: starting it"):
        pass
    with pytest.raises(system.SetupError), system.step("apt: installing"):
        raise system.SetupError("no")
    assert [line.rsplit(" ", 2)[0] for line in capsys.readouterr().out.splitlines()] == [
        "engine: starting it ...",
        "apt: installing ... failed after",
    ]


def test_a_command_that_cannot_run_is_a_result() -> None:
    """A missing program, a failure and a timeout each give a return code."""
    assert system.run("/nowhere/tool", timeout=60).returncode == 127
    assert system.run("sleep", "60", timeout=0.01).returncode == system.TIMED_OUT
    failed = system.run("sh", "-c", "echo seen; exit 3", timeout=60)
    assert (failed.returncode, failed.stdout) == (3, "seen\n")
    with pytest.raises(system.SetupError, match=r"exit code 3\n    seen"):
        system.must_run("sh", "-c", "echo seen; exit 3", timeout=60)


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The policy file that prevents Debian packages from starting daemons."""
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(system, "POLICY", path)
    return path


def test_apt_starts_no_daemon(policy: Path) -> None:
    """The policy exists while packages are installed, and is removed also after a failure."""
    with pytest.raises(OSError, match="disk full"), system.no_daemons():
        assert policy.read_text(encoding="utf-8") == "#!/bin/sh\nexit 101\n"
        assert os.access(policy, os.X_OK)
        raise OSError("disk full")
    assert not policy.exists()


def test_the_policy_of_the_machine_stays(policy: Path) -> None:
    """An existing policy is neither changed nor removed."""
    policy.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    with system.no_daemons():
        pass
    assert policy.read_text(encoding="utf-8") == "#!/bin/sh\nexit 0\n"


@pytest.mark.usefixtures("policy")
def test_apt_is_called_with_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One update and one install, non-interactive, waiting for locks and keeping modified configuration files."""
    calls = tmp_path / "calls"
    apt = tmp_path / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >> {calls}\n', encoding="utf-8")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(system, "can_install", lambda: True)
    system.apt_install("docker.io", "docker-cli")
    wait = "noninteractive -y -q -o DPkg::Lock::Timeout=300"
    keep = "--no-install-recommends -o Dpkg::Options::=--force-confold"
    assert calls.read_text().splitlines() == [f"{wait} update", f"{wait} install {keep} docker.io docker-cli"]


def test_without_root_apt_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error contains the command to run by hand."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(system.SetupError, match=r"sudo apt-get install --no-install-recommends docker\.io$"):
        system.apt_install("docker.io")


def asked(code: int, output: str) -> subprocess.CompletedProcess[str]:
    """The result of `docker version`."""
    return subprocess.CompletedProcess(("docker", "version"), code, output)


REFUSED = asked(1, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
HANGS = asked(system.TIMED_OUT, "no answer within 30 s")
FORBIDDEN = asked(1, "permission denied while trying to connect to the Docker daemon socket")


@pytest.mark.parametrize(
    ("result", "host", "may_install", "reason"),
    [
        (REFUSED, None, True, None),
        (REFUSED, "", True, None),
        (REFUSED, None, False, "no Docker engine answers, and only root can start one"),
        (
            REFUSED,
            "tcp://10.0.0.1:2375",
            True,
            "the engine at DOCKER_HOST=tcp://10.0.0.1:2375 does not answer",
        ),
        (HANGS, None, True, "an engine is running, but does not respond (no answer within 30 s)"),
        (FORBIDDEN, None, False, "an engine is running, but you may not use it"),
    ],
)
def test_starts_an_engine_only_where_that_helps(
    result: subprocess.CompletedProcess[str], host: str | None, may_install: bool, reason: str | None
) -> None:
    """If an engine must not or cannot be started, the error names the action required."""
    found = engine.why_not_start(result, host, may_install=may_install)
    assert found is None if reason is None else found is not None and found.startswith(reason)


@pytest.mark.parametrize(
    ("written", "process", "stale"),
    [
        (None, None, False),
        ("42", "dockerd", False),
        ("42", "sshd", True),
        ("42", None, True),
        ("", None, True),
    ],
)
def test_a_pid_file_of_a_dead_engine_is_stale(
    tmp_path: Path, written: str | None, process: str | None, stale: bool
) -> None:
    """A pid file is stale if its process does not exist or is another program."""
    pid_file, proc = tmp_path / "docker.pid", tmp_path / "proc"
    if written is not None:
        pid_file.write_text(written, encoding="ascii")
    if process is not None:
        (proc / "42").mkdir(parents=True)
        (proc / "42" / "comm").write_text(f"{process}\n", encoding="utf-8")
    assert engine.is_stale(pid_file, "dockerd", proc) is stale


@pytest.fixture
def docker_without_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker client that finds only the user's plugin; returns the path where it looks."""
    plugin = tmp_path / "config" / "cli-plugins" / "docker-compose"
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\n[ -e {plugin} ] || exit 1\nexec {plugin} "$@"\n', encoding="utf-8")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    return plugin


def test_the_compose_plugin_is_copied(tmp_path: Path, docker_without_compose: Path) -> None:
    """The copy replaces a dangling link, is executable, and does not depend on the checkout."""
    binary = tmp_path / "docker-compose"
    binary.write_text("#!/bin/sh\necho 5.6.1\n", encoding="utf-8")
    docker_without_compose.parent.mkdir(parents=True)
    docker_without_compose.symlink_to(tmp_path / "deleted")
    engine.ensure_compose(binary)
    assert not docker_without_compose.is_symlink()
    assert docker_without_compose.read_bytes() == binary.read_bytes()
    assert [path.name for path in docker_without_compose.parent.iterdir()] == ["docker-compose"]


def test_a_broken_compose_plugin_is_not_replaced(tmp_path: Path, docker_without_compose: Path) -> None:
    """An installed plugin that does not work is reported, not overwritten."""
    docker_without_compose.parent.mkdir(parents=True)
    docker_without_compose.write_text("#!/bin/sh\necho broken; exit 1\n", encoding="utf-8")
    docker_without_compose.chmod(0o755)
    with pytest.raises(system.SetupError, match=r"does not work: remove it and try again\nbroken"):
        engine.ensure_compose(tmp_path / "docker-compose")


def test_the_image_reaches_the_mirror_as_the_machine_does() -> None:
    """apt's settings for proxies and clock checks are used for the image; other settings are not."""
    dump = (
        'Acquire "";\n'
        'Acquire::http "";\n'
        'Acquire::http::Proxy "http://10.0.0.1:3142";\n'
        'Acquire::https::Proxy "";\n'
        'Acquire::Check-Date "false";\n'
        'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";\n'
        'DPkg::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";\n'
    )
    assert engine.apt_transport(dump) == [
        'Acquire::http::Proxy "http://10.0.0.1:3142";',
        'Acquire::Check-Date "false";',
    ]


@pytest.mark.parametrize(
    ("release", "used"),
    [
        ({"ID": "debian", "VERSION_CODENAME": "bookworm"}, ["debian.sources"]),
        ({"ID": "debian", "VERSION_CODENAME": "trixie"}, []),
        ({"ID": "ubuntu", "VERSION_CODENAME": "noble"}, []),
    ],
)
def test_only_bookworm_lends_its_source_lists(
    tmp_path: Path, release: dict[str, str], used: list[str]
) -> None:
    """Source lists of another Debian release are not used."""
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text("URIs: http://mirror/debian\n", encoding="utf-8")
    (folder / "node.sources").write_text("URIs: http://mirror/node\n", encoding="utf-8")
    assert [Path(name).name for name in engine.source_lists(release, tmp_path)] == used


def test_the_command_that_builds_the_image() -> None:
    """Each apt option and source list is a single argument, whatever it contains."""
    argv = engine.build_argv("/t/root.tar", ["/etc/apt/a.sources"], ['Acquire::http::Proxy "x y";'])
    assert argv[:4] == ("mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=Acquire::http::Proxy "x y";')
    assert argv[-3:] == ("bookworm", "/t/root.tar", "/etc/apt/a.sources")


@pytest.mark.parametrize("workflows", [True, False])
def test_every_linter_runs(tmp_path: Path, workflows: bool) -> None:
    """All linters run; the workflow linter is left out if there are no workflows, as in a source archive."""
    if workflows:
        (tmp_path / ".github" / "workflows").mkdir(parents=True)
    programs = [argv[0] for argv in noxfile.linters(tmp_path)]
    assert programs == ["ruff", "ruff", "shellcheck", *["zizmor"] * workflows, "lint-imports", "mypy"]


def test_shell_scripts_are_found_by_name_and_by_first_line(tmp_path: Path) -> None:
    """A script without the suffix .sh is linted too."""
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "a.sh").write_text("true\n", encoding="utf-8")
    (folder / "b").write_text("#!/usr/bin/env bash\n", encoding="utf-8")
    (folder / "c.py").write_text("#!/usr/bin/env python3\n", encoding="utf-8")
    assert noxfile.shell_files(tmp_path) == [str(folder / "a.sh"), str(folder / "b")]

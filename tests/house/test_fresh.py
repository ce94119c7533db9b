"""What a fresh machine is given: the words that would be run, and who is asked to run them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from scripts.fresh import apt, compose, engine, image, pythons, run, venv

HERE = Path("/clone")


@pytest.mark.parametrize(
    ("version", "good"),
    [((3, 10, 14), False), ((3, 11, 0), True), ((3, 13, 0), True), ((4, 0, 0), True), ((2, 7, 18), False)],
)
def test_python_is_new_enough_from_3_11(version: tuple[int, ...], good: bool) -> None:
    """The project is written in Python 3.11."""
    assert pythons.is_new_enough(version) is good


@pytest.mark.parametrize(
    ("there", "broken", "found"),
    [
        ({"python3.12", "python3"}, set(), "/bin/python3.12"),
        ({"python3.12", "python3.11"}, {"python3.12"}, "/bin/python3.11"),
        ({"python3"}, set(), "/bin/python3"),
        ({"python3"}, {"python3"}, None),
        (set(), set(), None),
    ],
)
def test_finds_the_first_python_that_runs(there: set[str], broken: set[str], found: str | None) -> None:
    """A shim that starts nothing is passed over."""
    answer = pythons.find(
        which=lambda name: f"/bin/{name}" if name in there else None,
        good=lambda path: Path(path).name not in broken,
    )
    assert answer == found


def test_a_virtual_environment_is_installed_by_two_commands() -> None:
    """Pinned packages come with their hashes; the project itself comes without its dependencies."""
    pinned, itself = venv.Venv(HERE).install_words()
    assert pinned[:4] == ("/clone/.venv/bin/python", "-m", "pip", "install")
    assert pinned[-3:] == ("--require-hashes", "-r", "/clone/constraints.txt")
    assert itself[-4:] == ("--no-deps", "--no-build-isolation", "-e", "/clone")


def checkout(root: Path) -> Path:
    """A folder with what a virtual environment is made from."""
    for name in venv.SOURCES:
        (root / name).write_text("first\n", encoding="utf-8")
    return root


def test_a_changed_pin_is_another_stamp(tmp_path: Path) -> None:
    """The environment is made anew when a pin or the place changes, and only then."""
    before = venv.wanted(checkout(tmp_path))
    assert venv.wanted(tmp_path) == before
    (tmp_path / "constraints.txt").write_text("second\n", encoding="utf-8")
    after = venv.wanted(tmp_path)
    assert (after.home == before.home, after.pins == before.pins) == (True, False)


@pytest.mark.parametrize("text", [None, "", "one line\n", "a\nb\nc\n"])
def test_a_half_made_environment_has_no_stamp(tmp_path: Path, text: str | None) -> None:
    """What is not a whole stamp is none."""
    stamp = tmp_path / "made-from"
    if text is not None:
        stamp.write_text(text, encoding="utf-8")
    assert venv.found(stamp) == venv.Stamp("", "")


def test_installs_only_what_is_missing() -> None:
    """A tool that came another way than by apt is as good."""
    here = {"dockerd": "/opt/bin/dockerd"}
    assert apt.missing((apt.ENGINE, apt.CLIENT), here.get) == (apt.CLIENT,)


def test_apt_is_called_once_and_asks_nothing() -> None:
    """All packages come by one call, which waits for another apt and keeps changed files."""
    words = apt.install_words(apt.ENGINE, apt.CLIENT)
    assert words[0] == "apt-get"
    assert {
        "-y",
        "--no-install-recommends",
        "DPkg::Lock::Timeout=300",
        "Dpkg::Options::=--force-confold",
    } < set(words)
    assert words[-2:] == ("docker.io", "docker-cli")


def test_each_package_has_its_reason() -> None:
    """A package that nobody can justify is not installed on anybody's machine."""
    packages = (apt.VENV, apt.ENGINE, apt.CLIENT, apt.BOOTSTRAP, *apt.TESTS)
    assert [package for package in packages if len(package.reason.split()) < 4] == []


def test_no_daemon_starts_and_the_ban_ends(tmp_path: Path) -> None:
    """While packages are installed Debian's policy says no; afterwards it is gone, also after a failure."""
    policy = tmp_path / "policy-rc.d"
    with pytest.raises(OSError, match="disk full"), apt.no_daemons(policy):
        assert (policy.read_text(encoding="utf-8"), os.access(policy, os.X_OK)) == (
            "#!/bin/sh\nexit 101\n",
            True,
        )
        raise OSError("disk full")
    assert not policy.exists()


def test_the_machines_own_policy_stays(tmp_path: Path) -> None:
    """A policy that somebody else wrote is neither changed nor removed."""
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    with apt.no_daemons(policy):
        pass
    assert policy.read_text(encoding="utf-8") == "#!/bin/sh\nexit 0\n"


REFUSED = run.Done(1, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
HUNG = run.ask(("sleep", "60"), seconds=0.01)
FORBIDDEN = run.Done(1, "permission denied while trying to connect to the Docker daemon socket")


@pytest.mark.parametrize(
    ("answer", "host", "may_install", "begins"),
    [
        (REFUSED, None, True, None),
        (REFUSED, "", True, None),
        (REFUSED, None, False, "no Docker engine answers, and only root may start one"),
        (
            REFUSED,
            "tcp://10.0.0.1:2375",
            True,
            "the engine at DOCKER_HOST=tcp://10.0.0.1:2375 does not answer",
        ),
        (HUNG, None, True, "an engine is there, but mute (no end after 0 s)"),
        (FORBIDDEN, None, False, "an engine is there, but you may not use it"),
    ],
)
def test_an_engine_is_started_only_where_that_helps(
    answer: run.Done, host: str | None, may_install: bool, begins: str | None
) -> None:
    """Where it would be wrong or forbidden, a person is told what to run."""
    advice = engine.advice(answer, host, may_install=may_install)
    assert advice is None if begins is None else advice is not None and advice.startswith(begins)


def test_the_engine_outlives_us() -> None:
    """It gets a session of its own, and init as its parent."""
    assert engine.start_words("/usr/sbin/dockerd") == ("setsid", "--fork", "/usr/sbin/dockerd")


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
    """After a crash the number may be nobody's or somebody else's: the engine would refuse to start."""
    pid_file, proc = tmp_path / "docker.pid", tmp_path / "proc"
    if written is not None:
        pid_file.write_text(written, encoding="ascii")
    if process is not None:
        (proc / "42").mkdir(parents=True)
        (proc / "42" / "comm").write_text(f"{process}\n", encoding="utf-8")
    assert engine.is_stale(pid_file, "dockerd", proc) is stale


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({}, "/home/ana/.docker/cli-plugins/docker-compose"),
        ({"DOCKER_CONFIG": ""}, "/home/ana/.docker/cli-plugins/docker-compose"),
        ({"DOCKER_CONFIG": "/etc/mine"}, "/etc/mine/cli-plugins/docker-compose"),
    ],
)
def test_the_plugin_is_put_where_this_client_looks(env: dict[str, str], place: str) -> None:
    """DOCKER_CONFIG moves the plugins of a user too."""
    assert compose.plugin(env, Path("/home/ana")) == Path(place)


@pytest.mark.parametrize(
    ("short", "good"),
    [
        ("2.24.6\n", True),
        ("v2.17.3\n", True),
        ("5.6.1\n", True),
        ("1.29.2", False),
        ("", False),
        ("dev", False),
    ],
)
def test_compose_is_version_2_or_newer(short: str, good: bool) -> None:
    """Compose v1 has the same name and other semantics."""
    assert compose.is_version_2(short) is good


def test_a_plugin_does_not_die_with_the_checkout(tmp_path: Path) -> None:
    """It is a copy in place of a dangling link, executable, and nothing else is left beside it."""
    binary = tmp_path / "docker-compose"
    binary.write_bytes(b"ELF")
    place = tmp_path / "home" / "cli-plugins" / "docker-compose"
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "gone")
    compose.put(binary, place)
    assert (place.is_symlink(), place.read_bytes()) == (False, b"ELF")
    assert place.stat().st_mode & stat.S_IXUSR
    assert [path.name for path in place.parent.iterdir()] == ["docker-compose"]


def test_the_image_reaches_the_mirror_as_the_machine_does() -> None:
    """Proxies and clocks of apt go into the image; what else the machine configures does not."""
    dump = (
        'Acquire "";\n'
        'Acquire::http "";\n'
        'Acquire::http::Proxy "http://10.0.0.1:3142";\n'
        'Acquire::https::Proxy "";\n'
        'Acquire::Check-Date "false";\n'
        'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";\n'
        'DPkg::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb";\n'
    )
    assert list(image.reach(dump)) == [
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
def test_only_a_bookworm_lends_its_sources(tmp_path: Path, release: dict[str, str], used: list[str]) -> None:
    """Another release's lists would build another release."""
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (folder / "debian.sources").write_text("URIs: http://mirror/debian\n", encoding="utf-8")
    (folder / "node.sources").write_text("URIs: http://mirror/node\n", encoding="utf-8")
    assert [Path(name).name for name in image.sources(release, tmp_path)] == used


def test_the_image_is_built_as_words() -> None:
    """Options of apt and source lists are whole words, whatever is in them."""
    words = image.build_words(Path("/t/root.tar"), ["/etc/apt/a.sources"], ['Acquire::http::Proxy "x y";'])
    assert words[:4] == ("mmdebstrap", "--quiet", "--variant=minbase", '--aptopt=Acquire::http::Proxy "x y";')
    assert words[-3:] == ("bookworm", "/t/root.tar", "/etc/apt/a.sources")

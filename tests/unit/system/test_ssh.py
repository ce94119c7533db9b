"""Commands on other hosts: which command lines they become, and what ssh's answers mean."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from cutover.core.errors import ConfigError
from cutover.core.masking import Mask
from cutover.system import ssh
from cutover.system.process import TIMED_OUT, CompletedCommand
from cutover.system.ssh import (
    BEGINS,
    REASONS,
    UNREACHED,
    SshHost,
    connections,
    in_folder,
    misconfigured,
    tied,
    unreached,
)
from tests.helpers.near_host import NearHost

WEB = SshHost("deploy@web-1", Path("/run/c/0"))


def test_a_command_line_is_strict_and_ends_its_options_before_the_host() -> None:
    """No password is asked for, no unknown key is accepted, and `--` stands before the name."""
    argv = WEB.argv("echo 'a b'")
    assert argv[-3:] == ("--", "deploy@web-1", """sh -c 'echo '"'"'a b'"'"''""")
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "ControlMaster=auto", "ControlPath=/run/c/0"} < {
        *argv
    }
    assert "-F" not in argv
    alone = {*SshHost("web-1", None).argv("true")}
    assert {"ControlPath=none", "IdentityAgent=none"} < alone
    assert "ControlMaster=auto" not in alone
    without_agent = SshHost("web-1", Path("/run/c/0"), agent=False).argv("true")
    assert {"ControlPath=/run/c/0", "ControlMaster=auto", "IdentityAgent=none"} < {*without_agent}
    assert "IdentityAgent=none" not in argv
    assert SshHost("web-1", Path("/run/c/0"), Path("/etc/x")).argv("true")[:3] == ("ssh", "-F", "/etc/x")


def test_a_socket_of_the_host_becomes_one_here() -> None:
    """The connection that is there is asked for it; an old socket of that name is replaced."""
    argv = WEB.forward_argv(Path("/run/c/0.engine"), "/var/run/docker.sock")
    assert argv[-6:] == ("-O", "forward", "-L", "/run/c/0.engine:/var/run/docker.sock", "--", "deploy@web-1")
    assert {"StreamLocalBindUnlink=yes", "StrictHostKeyChecking=yes"} < {*argv}


@pytest.mark.parametrize(
    "name", ["-oProxyCommand=id", "-", "", "a b", "web;id", "web\n", "$(id)", "web/1", "..", "wéb"]
)
def test_a_name_that_ssh_could_misread_is_refused(name: str) -> None:
    """A host name is never an option or shell syntax."""
    with pytest.raises(ConfigError, match="is no ssh name of a host"):
        SshHost(name, Path("/run/c/0"))


def done(code: int, err: str) -> CompletedCommand:
    """A command of ssh that ended."""
    return CompletedCommand(("ssh",), code, "", err)


@pytest.mark.parametrize(
    ("code", "err", "meaning"),
    [
        (0, "", ""),
        (12, "cutover: locked", ""),
        (UNREACHED, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", "has changed"),
        (UNREACHED, "No ED25519 host key is known for web-1 and you have requested strict checking.", "not known here"),
        (UNREACHED, "ssh: Could not resolve hostname web-9: Name or service not known", "no host of that name"),
        (UNREACHED, "deploy@web-1: Permission denied (publickey).", "refuses the login"),
        (UNREACHED, "ssh: connect to host web-1 port 22: Connection refused", "no answer: ssh: connect to host"),
        (TIMED_OUT, "ssh -o …: no end after 10 s", "no answer: ssh -o …: no end after 10 s"),
    ],
)  # fmt: skip
def test_what_ssh_says_becomes_one_line(code: int, err: str, meaning: str) -> None:
    """A host that was not reached is told apart from a command that failed on it, with the way out."""
    said = unreached(done(code, err))
    assert meaning in said
    assert bool(said) is bool(meaning)
    assert bool(misconfigured(done(code, err))) is (bool(meaning) and not meaning.startswith("no answer"))
    assert "\n" not in said


def shell(script: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    """Run a line of shell here as ssh runs it there."""
    words = ("sh", "-c", script)
    return subprocess.run(words, stdin=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_a_command_finds_the_programs_of_its_folder(tmp_path: Path) -> None:
    """`.venv/bin` comes first; words and values reach the command as they are."""
    folder = tmp_path / "a 'b"
    (folder / ".venv/bin").mkdir(parents=True)
    program = folder / ".venv/bin/cutover"
    program.write_text('#!/bin/sh\npwd; printf "%s|" "$WHO" "$@"; exit 7\n')
    program.chmod(0o755)
    said = shell(in_folder(str(folder), "cutover", "x y", "$HOME", WHO="it's ana"))
    assert (said.returncode, said.stdout) == (7, f"{folder}\nit's ana|x y|$HOME|")


def test_a_tied_command_keeps_its_exit_code() -> None:
    """As long as standard input is open, the command ends by itself."""
    reads, writes = os.pipe()
    said = shell(tied("exec sh -c 'echo said; exit 7'"), stdin=reads)
    os.close(writes)
    os.close(reads)
    assert (said.returncode, said.stdout) == (7, "said\n")


def test_a_tied_command_ends_with_its_standard_input(tmp_path: Path) -> None:
    """A session on a host gets SIGTERM when its coordinator is gone, and ends in order."""
    begun = tmp_path / "begun"
    inner = f"trap 'echo reverted; exit 2' TERM; : >{begun}; while :; do sleep 0.05; done"
    script = tied(f"exec sh -c {shlex.quote(inner)}")
    with subprocess.Popen(
        ("sh", "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 30
        while not begun.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        said, _ = process.communicate(timeout=30)
    assert (process.returncode, said) == (2, "reverted\n")


@pytest.mark.parametrize(
    "starts", ["", "echo Welcome", "printf Welcome", "echo Welcome; cat /dev/null; echo >&2 hi"]
)
def test_what_a_start_file_prints_is_no_output_of_a_command(starts: str) -> None:
    """The output, the exit code and the standard input are those of the script, whatever a shell prints before it."""
    host = NearHost("web-1", None, starts=starts)
    said = host.run(f"echo a; echo {shlex.quote(BEGINS)}; exit 7", deadline_s=30)
    assert (said.out, said.code) == (f"a\n{BEGINS}\n", 7)
    assert host.run("exit 255", deadline_s=30).code == UNREACHED
    reads, writes = os.pipe()
    os.write(writes, b"given\n")
    os.close(writes)
    assert host.run("cat", deadline_s=30, stdin=reads).out == "given\n"
    os.close(reads)


def test_a_secret_is_masked_in_the_output_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is a word of what marks the beginning."""
    mask = Mask()
    mask.learn(["begins here"])
    monkeypatch.setattr(ssh, "MASK", mask)
    said = NearHost("web-1", None).run("echo begins here; echo b; exit 1", deadline_s=30)
    assert "begins here" not in said.out
    assert said.out.endswith("\nb\n")


def test_the_files_of_a_folder_arrive_as_they_are(tmp_path: Path) -> None:
    """The bytes of the tar file are whole although the shell prints a line before them; too many are refused."""
    content = bytes(range(256)) * 400
    (tmp_path / "a").write_bytes(content)
    host = NearHost("web-1", None)
    with tarfile.open(fileobj=io.BytesIO(host.fetch(str(tmp_path), most=10**6, deadline_s=30))) as archive:
        file = archive.extractfile("./a")
        assert file is not None
        assert file.read() == content
    with pytest.raises(OSError, match="more than 10 bytes"):
        host.fetch(str(tmp_path), most=10, deadline_s=30)
    with pytest.raises(OSError, match="none"):
        host.fetch(str(tmp_path / "none"), most=10**6, deadline_s=30)


@pytest.mark.parametrize(
    ("starts", "said"),
    [
        ("exit 0", "exit 0 without a word"),
        ("echo This account is not available.; exit 1", "This account is not available."),
        ("echo Welcome; nowhere-to-be-found", ""),
    ],
)
def test_a_command_that_the_shell_did_not_begin_says_nothing_of_the_host(starts: str, said: str) -> None:
    """A start file or a forced command that ends before it is no answer, whatever its exit code; an error in it is."""
    got = NearHost("web-1", None, starts=starts).run("echo answer", deadline_s=30)
    assert got.out == ("" if said else "answer\n")
    assert unreached(got) == (f"no answer: the command did not begin: {said}" if said else "")


def test_connections_have_short_private_sockets() -> None:
    """Each host has a socket of its own in a folder that is removed afterwards."""
    with connections(["web-1", "web-2"]) as hosts:
        sockets = [host.socket for host in hosts.values() if host.socket]
        folder = sockets[0].parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len({*sockets}) == 2
        assert all(len(str(each)) < 90 for each in sockets)
    assert not folder.exists()


def test_one_bad_name_refuses_all() -> None:
    """No connection is made if one of the names is wrong."""
    with pytest.raises(ConfigError, match="-x"), connections(["web-1", "-x"]):
        pytest.fail("not reached")


@pytest.mark.parametrize("engine", ["ssh://ana@web-9", "tcp://web-9:2376"])
def test_ssh_asks_no_engine(engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Any machine can be a coordinator, also one whose engine is on another host, or which has none."""
    monkeypatch.setenv("DOCKER_HOST", engine)
    host = NearHost("web-1", tmp_path / "socket")
    assert host.run('echo "${DOCKER_HOST:-none}"', deadline_s=30).out == "none\n"
    host.close()


SAID = (
    "bash: /etc/motd: Permission denied",
    "Host key verification failed.",
    "ssh: Could not resolve hostname proxy: Name or service not known",
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
)


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("script", ["sleep 9", "exit 255"], ids=["no end", "connection lost"])
def test_what_a_start_file_prints_is_not_what_ssh_says(said: str, script: str) -> None:
    """Of a command that has begun the host is known and the login good: it is only silent."""
    noise = f"echo {shlex.quote(said)} >&2"
    assert unreached(NearHost("web-1", None, starts=noise).run(script, deadline_s=0.5)).startswith(
        "no answer: "
    )
    refused = NearHost("web-1", None, starts=f"{noise}; exit 255").run(script, deadline_s=0.5)
    assert unreached(refused) in {meaning for _, meaning in REASONS}

"""Commands on this host: deadline, own environment, masked output."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cutover.core.change import undo_script
from cutover.core.errors import ConfigError, EngineUnavailable
from cutover.core.masking import MASK
from cutover.system import docker, process

SHORT_S = 0.3  # a deadline that is meant to be missed; nothing is asserted of how long it took
LONG_S = 60.0


@pytest.mark.parametrize(
    ("words", "code", "out", "last"),
    [
        (("true",), 0, "", "exit 0 without a word"),
        (("false",), 1, "", "exit 1 without a word"),
        (("sh", "-c", "echo said; echo why >&2; exit 7"), 7, "said\n", "why"),
        (("sh", "-c", "echo one; echo two"), 0, "one\ntwo\n", "two"),
        (("sh", "-c", "echo why >&2; echo ' Container a-b-1  Created ' >&2; exit 3"), 3, "", "why"),
        (("sh", "-c", "echo 'Network a_default Created 0.1s' >&2; exit 3"), 3, "", "exit 3 without a word"),
        (("sh", "-c", "printf 'why\\n\\n \\n' >&2; exit 1"), 1, "", "why"),
        (("printf", "\\377"), 0, "\ufffd", "\ufffd"),
        (("no-such-command",), 127, "", "no-such-command: No such file or directory"),
        (("/etc/passwd",), 127, "", "/etc/passwd: Permission denied"),
        (("sh", "-c", "kill -9 $$"), -signal.SIGKILL, "", "exit -9 without a word"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_command_did_is_told(words: process.Argv, code: int, out: str, last: str) -> None:
    """A failed command raises nothing; exit code, output and last line are returned."""
    done = process.run(words, deadline_s=LONG_S)
    assert (done.argv, done.code, done.out, done.last_line) == (words, code, out, last)
    assert done.ok is (code == 0)


def test_a_deadline_ends_the_whole_group(tmp_path: Path) -> None:
    """After the deadline the process group is killed; the exit code is 124 and the output is kept."""
    pid = tmp_path / "pid"
    script = 'sleep 600 & echo $! >"$1.draft"; echo begun; mv "$1.draft" "$1"; wait'
    done = process.run(("sh", "-c", script, "sh", str(pid)), deadline_s=SHORT_S)
    assert done.code == process.TIMED_OUT
    assert "no end after 0.3 s" in done.last_line
    if pid.exists():  # on a very busy machine it may have had no time to begin
        assert done.out == "begun\n"
        assert _ends(int(pid.read_text()))


def test_a_child_that_left_the_group_holds_nobody_up(tmp_path: Path) -> None:
    """The deadline holds although a daemon keeps the pipes open; the daemon is not killed."""
    code = (
        "import os, sys, time; os.setsid(); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    )
    pid = tmp_path / "pid"
    script = '"$1" -c "$2" "$3" & while [ ! -s "$3" ]; do :; done; echo begun; wait'
    done = process.run(("sh", "-c", script, "sh", sys.executable, code, str(pid)), deadline_s=1)
    assert done.code == process.TIMED_OUT
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_a_command_that_ended_is_not_said_to_hang(tmp_path: Path) -> None:
    """The exit code of a command counts although a child of it keeps the pipes open."""
    done = process.run(("sh", "-c", "sleep 600 & exit 3"), deadline_s=1)
    assert done.code == 3


def test_the_environment_is_not_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exported IMAGE_TAG would override every env file: only what the engine needs is passed on."""
    for key in ("IMAGE_TAG", "COMPOSE_PROFILES", "COMPOSE_PROJECT_NAME", "PATH", "PYTHONPATH"):
        monkeypatch.setenv(key, "/strange")
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    shell = "/bin/sh"
    rows = process.run(
        (shell, "-c", "/usr/bin/env"), deadline_s=LONG_S, environment={"TAG": "sha-2"}
    ).out.splitlines()
    seen = dict(row.split("=", 1) for row in rows)
    assert seen["PATH"] == process.FIXED_PATH
    assert seen["DOCKER_HOST"] == "unix:///run/other.sock"
    assert seen["TAG"] == "sha-2"
    assert "/strange" not in seen.values()


DOCKER = """\
#!/bin/sh
case "$*" in
*" rootless") echo "unix://{folder}/none.sock" ;;
*" far") echo "ssh://far" ;;
*" default") echo "unix:///var/run/docker.sock" ;;
*) echo "context \\"$5\\": not found" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A docker command with the contexts `rootless` and `default`, and an own configuration folder."""
    command = tmp_path / "docker"
    command.write_text(DOCKER.format(folder=tmp_path))
    command.chmod(0o755)
    for key in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(process, "FIXED_PATH", f"{tmp_path}:{process.FIXED_PATH}")
    process._host_of_context.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    ("variables", "chosen", "expected"),
    [
        ({}, None, None),
        ({}, "default", None),
        ({}, "rootless", "unix://{folder}/none.sock"),
        ({"DOCKER_CONTEXT": "rootless"}, None, "unix://{folder}/none.sock"),
        ({"DOCKER_CONTEXT": "default"}, "rootless", "unix:///var/run/docker.sock"),
        ({"DOCKER_HOST": "unix:///run/other.sock"}, "rootless", "unix:///run/other.sock"),
        (
            {"DOCKER_HOST": "unix:///run/other.sock", "DOCKER_CONTEXT": "rootless"},
            None,
            "unix:///run/other.sock",
        ),
    ],
)
def test_one_engine_is_asked_and_changed(
    contexts: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    chosen: str | None,
    expected: str | None,
) -> None:
    """CLI and SDK use the engine of the chosen context, also if DOCKER_CONTEXT overrides the current one."""
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    if chosen is not None:
        (contexts / "config.json").write_text(f'{{"currentContext": "{chosen}"}}')
    seen = process.clean_environment()
    assert "DOCKER_CONTEXT" not in seen
    assert seen.get("DOCKER_HOST") == (expected and expected.format(folder=contexts))


def test_the_sdk_goes_where_the_context_leads(contexts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK connects to the engine of the context."""
    monkeypatch.setenv("DOCKER_CONTEXT", "rootless")
    with pytest.raises(EngineUnavailable) as raised:
        docker.new_client(7)
    assert f"the Docker engine at unix://{contexts}/none.sock does not answer" in str(raised.value)


@pytest.mark.usefixtures("contexts")
def test_a_context_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an unknown context no command is run."""
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    with pytest.raises(ConfigError) as raised:
        process.run(("true",), deadline_s=LONG_S)
    assert str(raised.value) == "docker context 'nowhere' cannot be read: context \"nowhere\": not found"


@pytest.mark.usefixtures("contexts")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DOCKER_HOST": "ssh://ana@web-1"}, "DOCKER_HOST: the engine at ssh://ana@web-1 is on another host"),
        ({"DOCKER_CONTEXT": "far"}, "docker context 'far': the engine at ssh://far is on another host"),
    ],
)
def test_an_engine_behind_ssh_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    """The checks look at this host, so neither the CLI nor the SDK goes to another one."""
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    asking: tuple[Callable[[], object], ...] = (
        docker.new_client,
        process.clean_environment,
        lambda: docker.inspect("x"),
    )
    for ask in asking:
        with pytest.raises(ConfigError) as raised:
            ask()
        assert str(raised.value).startswith(said)
        assert "run cutover on that host" in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"DOCKER_HOST": "unix:///var/run/docker.sock"}),
        ({"DOCKER_CONTEXT": "rootless"}, {"DOCKER_HOST": "unix://{folder}/none.sock"}),
        ({"DOCKER_HOST": "tcp://h:1", "DOCKER_TLS_VERIFY": "1"}, {"DOCKER_HOST": "tcp://h:1", "DOCKER_TLS_VERIFY": "1"}),
    ],
)  # fmt: skip
def test_an_undo_asks_the_same_engine_in_any_shell(
    contexts: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: dict[str, str]
) -> None:
    """Neither a context that another shell has chosen nor its DOCKER_HOST leads an undo to another engine."""
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    filled = {key: value.format(folder=contexts) for key, value in expected.items()}
    found = process.engine_environment()
    assert found == filled | {"DOCKER_CONFIG": str(contexts)}
    exports = [f"export {key}={value}" for key, value in found.items()]
    lines = undo_script([], found).splitlines()
    assert [line for line in lines if line.startswith("export ")] == exports


def test_output_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both outputs are masked, except with `mask=False`."""
    monkeypatch.setattr(MASK, "values", {"hunter22"})
    argv = ("sh", "-c", "echo a hunter22; echo b hunter22 >&2")
    shown = process.run(argv, deadline_s=LONG_S)
    assert (shown.out, shown.err) == ("a ***\n", "b ***\n")
    assert process.run(argv, deadline_s=LONG_S, mask=False).out == "a hunter22\n"


def test_standard_input_is_given_or_empty() -> None:
    """Standard input is what was passed, else empty."""
    assert process.run(("cat",), deadline_s=LONG_S).out == ""
    assert process.run(("cat",), deadline_s=LONG_S, stdin=b"given").out == "given"


INTERRUPTED = """\
import os, sys
from cutover.system import process
script = 'read -r _; echo $$ >"$1"; kill -INT "$2"; sleep 600'
# What is read comes when the command is being waited for, and not while it is being started.
process.run(("sh", "-c", script, "sh", sys.argv[1], str(os.getpid())), deadline_s=60, stdin=b"go\\n")
"""


def test_an_interrupt_leaves_no_child(tmp_path: Path) -> None:
    """A Ctrl-C kills the running command and its children."""
    pid = tmp_path / "pid"
    argv = (sys.executable, "-c", INTERRUPTED, str(pid))
    done = process.run(argv, deadline_s=LONG_S, cwd=str(Path(__file__).parents[3]))
    assert "KeyboardInterrupt" in done.err
    assert _ends(int(pid.read_text()))


def _ends(pid: int) -> bool:
    """Whether a killed process is gone within the limit."""
    deadline = time.monotonic() + LONG_S
    while _runs(pid) and time.monotonic() < deadline:
        os.sched_yield()
    return not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

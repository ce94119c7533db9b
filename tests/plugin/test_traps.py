"""Each way in which a pytest session may end: what was changed is reverted, or nothing was changed."""

from __future__ import annotations

import re
import signal

import pytest

from tests.plugin.project import GOOD, Project, until

FIRST = "def test_a_first(target):\n    assert target\n\n"
# name: (test file, arguments, exit code; None: any but 0 that says so)
ENDS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "a failure": (FIRST + "def test_b(target):\n    assert 1 == 2\n", (), 1),
    "pytest.fail": (FIRST + "import pytest\ndef test_b(target):\n    pytest.fail('no')\n", (), 1),
    "an error that is no assertion": (FIRST + "def test_b(target):\n    raise RuntimeError('x')\n", (), 10),
    "a setup error": (
        FIRST + "import pytest\n@pytest.fixture\ndef f(target):\n    raise RuntimeError('x')\ndef test_b(f):\n    pass\n", (), 10,
    ),
    "a teardown error": (
        FIRST + "import pytest\n@pytest.fixture\ndef f(target):\n    yield\n    raise RuntimeError('x')\ndef test_b(f):\n    pass\n", (), 10,
    ),
    "all skipped": ("import pytest\ndef test_b(target):\n    pytest.skip('later')\n", (), 10),
    "one skipped": (FIRST + "import pytest\ndef test_b(target):\n    pytest.skip('later')\n", (), 10),
    "all xfail": ("import pytest\n@pytest.mark.xfail\ndef test_b(target):\n    assert 0\n", (), 10),
    "xpass": ("import pytest\n@pytest.mark.xfail(strict=False)\ndef test_b(target):\n    assert 1\n", (), 10),
    "an empty parameter set": (
        "import pytest\n@pytest.mark.parametrize('x', [])\ndef test_b(target, x):\n    pass\n" + FIRST, (), 10,
    ),
    "-x at the first failure": (FIRST + "def test_b(target):\n    assert 0\ndef test_c(target):\n    pass\n", ("-x",), 1),
    "--maxfail": (FIRST + "def test_b(target):\n    assert 0\ndef test_c(target):\n    pass\n", ("--maxfail=1",), 1),
    "KeyboardInterrupt in a test": (FIRST + "def test_b(target):\n    raise KeyboardInterrupt\n", (), 2),
    "KeyboardInterrupt in a fixture": (
        FIRST + "import pytest\n@pytest.fixture\ndef f(target):\n    raise KeyboardInterrupt\ndef test_b(f):\n    pass\n", (), 2,
    ),
    "pytest.exit": (FIRST + "import pytest\ndef test_b(target):\n    pytest.exit('enough')\n", (), 2),
    "pytest.exit with 0": (FIRST + "import pytest\ndef test_b(target):\n    pytest.exit('enough', returncode=0)\n", (), 10),
    "sys.exit(0)": (FIRST + "import sys\ndef test_b(target):\n    sys.exit(0)\n", (), 10),
    "the test's own time-out": (
        FIRST + "import time, pytest\n@pytest.mark.timeout(1)\ndef test_b(target):\n    time.sleep(30)\n", (), 10,
    ),
    "a time-out that is swallowed": (
        FIRST + "import time, pytest\n@pytest.mark.timeout(1)\ndef test_b(target):\n"
        "    try:\n        time.sleep(30)\n    except BaseException:\n        pass\n", (), 10,
    ),
    "a time-out that a fixture swallows": (
        FIRST + "import time, pytest\n@pytest.fixture\ndef f(target):\n    try:\n        time.sleep(30)\n    except BaseException:\n        pass\n"
        "@pytest.mark.timeout(1)\ndef test_b(f):\n    pass\n", (), 10,
    ),
    "a no that a fixture swallows": (
        FIRST + "import pytest\nfrom cutover import no\n@pytest.fixture\ndef mild(assert_verdict):\n"
        "    def ask(verdict):\n        try:\n            assert_verdict(verdict)\n        except BaseException:\n            pass\n"
        "    return ask\ndef test_b(target, mild):\n    mild(no('version', 'runs another tag'))\n", (), 1,
    ),
    "an unknown that a fixture swallows": (
        FIRST + "import contextlib\nfrom cutover import unknown\ndef test_b(target, assert_verdict):\n"
        "    with contextlib.suppress(BaseException):\n        assert_verdict(unknown('version', 'no answer'))\n", (), 10,
    ),
    "a hung fixture": (
        FIRST + "import time, pytest\n@pytest.fixture\ndef f(target):\n    time.sleep(30)\n"
        "@pytest.mark.timeout(1)\ndef test_b(f):\n    pass\n", (), 10,
    ),
    "a hung teardown": (
        FIRST + "import time, pytest\n@pytest.fixture\ndef f(target):\n    yield\n    time.sleep(6)\n"
        "@pytest.mark.timeout(1)\ndef test_b(f):\n    pass\n", (), 10,
    ),
    "all deselected": (FIRST, ("-k", "nothing"), 5),
    "a JUnit file that cannot be written": (
        FIRST + "import os\ndef test_b(target):\n    os.makedirs('made/x.xml')\n", ("--junitxml=made/x.xml",), 3,
    ),
    "a hung fixture where an ini file bounds only the test": (
        FIRST + "import time, pytest\n@pytest.fixture\ndef f(target):\n    time.sleep(6)\n"
        "@pytest.mark.timeout(1)\ndef test_b(f):\n    pass\n", ("-o", "timeout_func_only=true"), 10,
    ),
    "a hung fixture whose marker bounds only the test": (
        FIRST + "import time, pytest\n@pytest.fixture\ndef f(target):\n    time.sleep(6)\n"
        "@pytest.mark.timeout(1, func_only=True)\ndef test_b(f):\n    pass\n", (), 10,
    ),
    "a failure that a plugin runs again until it passes": (
        FIRST + "tries = []\ndef test_b(target):\n    tries.append(1)\n    assert len(tries) == 2\n", ("-p", "rerunner"), 1,
    ),
    "an exit status that a plugin made 0": (
        FIRST + "def test_b(target):\n    assert 0\n", ("-p", "liar"), 1,
    ),
    "a plugin that breaks the report": (FIRST + "def test_b(target):\n    pass\n", ("-p", "logbreaker"), 3),
    "a plugin that raises at the end": (FIRST + "def test_b(target):\n    pass\n", ("-p", "endbreaker"), 3),
    "--session-timeout": (
        FIRST + "import time\ndef test_b(target):\n    time.sleep(1.5)\ndef test_c(target):\n    pass\n", ("--session-timeout=1",), 1,
    ),
    "a collection error that is gone over": (
        FIRST, ("--continue-on-collection-errors", "broken"), 1,
    ),
    "a session fixture that raises at the end": (
        FIRST + "import pytest\n@pytest.fixture(scope='session')\ndef f(target):\n    yield\n    raise RuntimeError('x')\n"
        "def test_b(f):\n    pass\n", (), 10,
    ),
    "a session fixture that raises after Ctrl-C": (
        FIRST + "import pytest\n@pytest.fixture(scope='session')\ndef f(target):\n    yield\n    raise RuntimeError('x')\n"
        "def test_b(f):\n    raise KeyboardInterrupt\n", (), 2,
    ),
}  # fmt: skip
if pytest.version_tuple >= (9, 1):  # the first with this option; `nox -s lowest` has an older one
    ENDS["--max-warnings"] = (
        FIRST + "import warnings\ndef test_b(target):\n    warnings.warn('w')\n",
        ("--max-warnings=0",),
        10,
    )
PLUGINS = {
    "rerunner": (
        "from _pytest.runner import runtestprotocol\ndef pytest_runtest_protocol(item, nextitem):\n"
        "    for _ in range(2):\n        reports = runtestprotocol(item, log=False, nextitem=nextitem)\n"
        "    for each in reports:\n        item.ihook.pytest_runtest_logreport(report=each)\n    return True\n"
    ),
    "liar": "import pytest\n@pytest.hookimpl(trylast=True)\ndef pytest_sessionfinish(session):\n    session.exitstatus = 0\n",
    "logbreaker": "def pytest_runtest_logreport(report):\n    if report.when == 'call' and 'test_b' in report.nodeid:\n        raise ValueError('x')\n",
    "endbreaker": "def pytest_sessionfinish(session):\n    raise ValueError('x')\n",
}  # fmt: skip
DEATHS = {
    "os._exit(0)": "import os\ndef test_b(target):\n    os._exit(0)\n",
    "os._exit(0) after a failure": "import os\ndef test_a2(target):\n    assert 0\ndef test_b(target):\n    os._exit(0)\n",
    "a segmentation fault": "import ctypes\ndef test_b(target):\n    ctypes.string_at(0)\n",
    "SIGKILL": "import os, signal\ndef test_b(target):\n    os.kill(os.getpid(), signal.SIGKILL)\n",
    "SIGKILL of the whole group": "import os, signal\ndef test_b(target):\n    os.killpg(0, signal.SIGKILL)\n",
    # A shell ignores SIGQUIT in its background jobs, and children inherit that.
    "SIGQUIT": (
        "import os, signal\ndef test_b(target):\n"
        "    signal.signal(signal.SIGQUIT, signal.SIG_DFL)\n    os.kill(os.getpid(), signal.SIGQUIT)\n"
    ),
    "a thread's time-out": (
        "import time, pytest\n@pytest.mark.timeout(1, method='thread')\ndef test_b(target):\n    time.sleep(30)\n"
    ),
    "death while a fork lives on": (
        "import os, time\ndef test_b(target):\n    if os.fork() == 0:\n        time.sleep(3)\n        os._exit(0)\n    os._exit(0)\n"
    ),
}


@pytest.fixture
def breakers(project: Project) -> Project:
    """The project with the plugins that break a session."""
    (project.folder / "broken").mkdir()
    (project.folder / "broken" / "test_broken.py").write_text("import nothing_here\n")
    for name, text in PLUGINS.items():
        (project.folder / f"{name}.py").write_text(text)
    return project


def test_a_good_session_is_kept(project: Project) -> None:
    """When every test says yes the change stays, the release is closed, and the exit code is 0."""
    project.test(GOOD)
    done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.mark.exists()
    assert not project.is_open
    assert "RELEASED" in done.stdout


@pytest.mark.parametrize("name", ENDS)
def test_a_session_that_ends_badly_reverts_its_change(breakers: Project, name: str) -> None:
    """However pytest ends, what is not verified is reverted, at once, and the exit code says how it ended."""
    text, arguments, code = ENDS[name]
    breakers.test(text)
    done = breakers.run(*arguments, PYTHONPATH=f"{breakers.folder}:{breakers.environment()['PYTHONPATH']}")
    assert done.returncode == code, done.stdout + done.stderr
    assert not breakers.mark.exists()
    assert not breakers.is_open
    assert (breakers.folder / "reports" / "latest" / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_b(target):\n    assert 0\n",
            "marked xfail (known)",
        ),
        ("import pytest\ndef test_b(target):\n    pytest.skip('not today')\n", "skipped: not today"),
    ],
)
def test_a_mark_that_decides_is_named(project: Project, text: str, said: str) -> None:
    """A test that is skipped or expected to fail proves nothing, and the reason says which mark did that."""
    project.test(FIRST + text)
    done = project.run()
    assert done.returncode == 10, done.stdout + done.stderr
    assert said in done.stdout


def test_a_gate_without_the_shipped_checklist_says_so(project: Project) -> None:
    """A folder of one's own called smoke must not look like the whole gate."""
    project.test(GOOD)
    done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 check of your own" in done.stdout
    assert "--pyargs cutover.smoke" in " ".join(done.stdout.split())


def test_a_conftest_that_exits_is_no_pass(project: Project) -> None:
    """SystemExit(0) would end pytest with 0 before anything is asked."""
    project.test(GOOD)
    (project.folder / "gate" / "conftest.py").write_text("raise SystemExit(0)\n")
    done = project.run()
    assert done.returncode == 4, done.stdout + done.stderr
    assert "a conftest ended the session with SystemExit(0)" in done.stdout + done.stderr
    assert not project.mark.exists()


@pytest.mark.parametrize("name", DEATHS)
def test_a_session_that_dies_is_reverted_by_its_guard(project: Project, name: str) -> None:
    """No hook of pytest runs when a process dies; the guard, which waits for its lock, reverts the release."""
    project.test(FIRST + DEATHS[name])
    done = project.run()
    assert "RELEASED" not in done.stdout
    until(lambda: not project.is_open and not project.mark.exists(), f"the guard reverts; {done.stdout}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_session_in_order(project: Project, number: signal.Signals) -> None:
    """SIGTERM, SIGHUP and Ctrl-C revert within the session, with a report, and exit 2."""
    project.test(FIRST + f"import os\ndef test_b(target):\n    os.kill(os.getpid(), {int(number)})\n")
    done = project.run()
    assert done.returncode == 2, done.stdout + done.stderr
    assert not project.mark.exists()
    assert not project.is_open
    assert (project.folder / "reports" / "latest" / "report.html").exists()


@pytest.mark.parametrize("kill", ["os.kill(os.getpid(), signal.SIGINT)", "os.killpg(0, signal.SIGINT)"])
def test_a_second_ctrl_c_does_not_stop_the_revert(project: Project, kill: str) -> None:
    """Nothing interrupts a revert, neither a signal to the session nor one to all that a terminal has started."""
    slow = f"""
import os, pytest, signal, threading
from cutover.core.change import Change
@pytest.fixture(scope="session")
def slow(cutover_session, target):
    cutover_session.release().tx.apply(Change("slow", "x", ("true",), ("sleep 2",), 10.0))
def test_b(slow):
    threading.Timer(1.0, lambda: {kill}).start()
    {kill}
"""
    project.test(FIRST + slow)
    done = project.run()
    assert done.returncode == 2, done.stdout + done.stderr
    assert not project.mark.exists()
    assert not project.is_open


def test_a_revert_that_hangs_has_an_end(project: Project) -> None:
    """No time-out of pytest covers it, so it has its own: a person is told what to run, and the guard goes on."""
    go = project.folder / "go"
    hung = f"""
import pytest
from cutover.release import state, transaction
from cutover.core.change import Change
state.REVERT_DEADLINE_S = 2.0
transaction.REVERT_PATIENCE_S = 0.0
@pytest.fixture(scope="session")
def hung(cutover_session, target):
    cutover_session.release().tx.apply(Change("hung", "x", ("true",), ("while [ ! -e {go} ]; do sleep 0.1; done",), 10.0))
def test_b(hung):
    assert 0
"""
    project.test(FIRST + hung)
    done = project.run()
    assert done.returncode == 11, done.stdout + done.stderr
    assert "ROLLBACK FAILED" in done.stdout
    assert f"sh {project.state}/revert.sh {project.state} " in done.stdout
    assert project.is_open
    go.touch()
    until(lambda: not project.is_open and not project.mark.exists(), "the guard reverts")


def test_a_background_job_that_ignores_ctrl_c_can_be_stopped(project: Project) -> None:
    """SIGINT that was inherited as ignored is heard again."""
    project.test(
        FIRST
        + "import os, signal\ndef test_b(target):\n    os.kill(os.getpid(), signal.SIGINT)\n    import time; time.sleep(20)\n"
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = project.start()
    finally:
        signal.signal(signal.SIGINT, before)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 2, out
    assert not project.mark.exists()


@pytest.mark.parametrize("options", [(), ("-v",), ("-v", "-s")])
@pytest.mark.parametrize(
    ("test", "code"), [("print('x' * 100_000)", 0), ("print('x' * 100_000); assert 0", 1)]
)
def test_a_closed_pipe_is_no_verdict(
    project: Project, test: str, code: int, options: tuple[str, ...]
) -> None:
    """`pytest | head -1` loses the output and nothing else: a good release is kept, a bad one reverted."""
    project.test(FIRST + f"def test_b(target):\n    {test}\n")
    process = project.start(*options)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=120) == code
    assert project.mark.exists() is (code == 0)
    assert not project.is_open


def test_a_report_that_breaks_is_a_warning(project: Project) -> None:
    """What was kept stays kept and is said, whatever becomes of the report."""
    project.test(GOOD)
    with (project.folder / "gate" / "conftest.py").open("a") as conftest:
        conftest.write(
            "from cutover.report import page\ndef broken(*_):\n    raise ValueError('x')\npage.finish_page = broken\n"
        )
    done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: the report could not be written: ValueError: x" in done.stdout
    assert "RELEASED" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert project.mark.exists()


def test_a_gate_in_two_folders_is_one_gate(project: Project) -> None:
    """A conftest that holds for one of them only is no reason to break: pytest then keeps its plugins in a set."""
    project.test(GOOD)
    (project.folder / "team").mkdir()
    (project.folder / "team" / "test_team.py").write_text("def test_team():\n    pass\n")
    done = project.run("team")
    assert done.returncode == 0, done.stdout
    assert project.mark.exists()


def test_the_rollback_fixture_reverts_at_once(project: Project) -> None:
    """A team's own check may revert by itself; that nobody can say what serves then needs an operator."""
    project.test(FIRST + "def test_b(rollback, target):\n    rollback()\n")
    done = project.run()
    assert done.returncode == 11, done.stdout + done.stderr  # there is no engine that could say what serves
    assert not project.mark.exists()
    assert not project.is_open


def test_a_failed_drain_reverts_the_release(project: Project) -> None:
    """With `on_drain_timeout = "revert"` a request that does not end within the drain reverts the release, exit 1."""
    status = project.folder / "status"
    status.write_text("#!/bin/sh\necho blue\n")
    status.chmod(0o755)
    with (project.folder / "cutover.toml").open("a") as settings:
        settings.write(
            '[proxy]\ndriver = "command"\nurl = "http://127.0.0.1:9"\nswitch = ["true"]\nstatus = ["./status"]\n'
            'on_drain_timeout = "revert"\n'
        )
    drained = """
from types import SimpleNamespace
from cutover.proxy.drain import Drained
from cutover.release import switch
from cutover.watch.check import BackgroundWatch
def test_b(cutover_session, target, monkeypatch):
    monkeypatch.setattr(switch, "drain", lambda settings, color, port, *_: Drained(color, 30.0, most=2, left=2))
    cutover_session._switched = switch.Switched("green", SimpleNamespace(traffic=None), BackgroundWatch([]))
    cutover_session.watch(target, [])
def test_c(target):
    raise AssertionError("not reached")
"""
    project.test(FIRST + drained)
    done = project.run()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "drain blue: 2 requests or WebSockets still open after 30 s" in done.stdout
    assert "ROLLED BACK" in done.stdout
    assert "not reached" not in done.stdout
    assert not project.mark.exists()
    assert not project.is_open


def test_a_no_of_the_watch_in_the_background_ends_the_test_that_runs(project: Project) -> None:
    """From the switch on a first sure no ends a test in the middle, no further test begins, and the release reverts."""
    watched = """
import time
from cutover.core.verdict import no
from cutover.release.switch import Switched
from cutover.watch.check import Source, WatchCheck, at_once
from cutover.watch.check import BackgroundWatch
def test_b(cutover_session, target):
    begun = time.monotonic()
    sick = lambda _: no("5xx", "25 of 25 failed") if time.monotonic() > begun + 0.5 else no("x", "y").reported("z")
    check = WatchCheck("5xx", Source(lambda: None, every_s=0.1, start=at_once), sick)
    background = BackgroundWatch([check], on_end=cutover_session.signals.interrupt)
    cutover_session._switched = Switched("green", None, background)
    background.start()
    try:
        time.sleep(60)
    finally:
        print(f"ended after {time.monotonic() - begun:.0f} s")
def test_c(target):
    raise AssertionError("not reached")
"""
    project.test(FIRST + watched)
    done = project.run("-rA")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "5xx: 25 of 25 failed" in done.stdout
    ended = re.search(r"ended after (\d+) s", done.stdout)
    assert ended, done.stdout
    assert int(ended[1]) < 30
    assert "ROLLED BACK" in done.stdout
    assert "not reached" not in done.stdout
    assert not project.is_open

"""A release on three servers, each with sshd, a Docker engine and nginx of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from examples import releases
from tests.helpers.load import load
from tests.helpers.ssh_hosts import FOLDER, STATE, Fleet, fleet
from tests.helpers.ssh_server import ROOT

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

FIRST, GOOD, NEXT, LATE = "sha-4400001", "sha-4400002", "sha-4400003", "sha-4400004"
HOSTS = ("web-1", "web-2", "web-3")
RATE = 40.0
# As short as the batches with a watch of 2 s allow.
HOLD_S, HOLD_OF_ONE_S = 40.0, 22.0
WAIT_S = 300.0
STATUS_S = 2.0
"""Between two calls of `cutover status`, each of which takes half a second of a processor."""


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three servers with a first release each."""
    for tag in (FIRST, GOOD, NEXT):
        releases.build(tag)
    releases.build(LATE, "breaks-later", seconds=86400)
    images = [f"{releases.REPO}:{tag}" for tag in (FIRST, GOOD, NEXT, LATE)]
    with fleet(tmp_path_factory.mktemp("fleet"), images) as made:
        yield made


@pytest.fixture
def before(web: Fleet) -> str:
    """The one tag that all hosts serve before a test; nothing is open or held on any of them."""
    found = {web.tag(host) for host in HOSTS}
    assert len(found) == 1, found
    for host in HOSTS:
        status = web.status(host)
        assert [status[each] for each in ("open", "hold", "releasing", "needs_operator")] == [None] * 4
    return found.pop()


def all_serve(tag: str) -> dict[str, str]:
    """What `Fleet.tags` says if all hosts serve *tag*."""
    return dict.fromkeys(HOSTS, tag)


def report_of(web: Fleet) -> Path:
    """The newest report of the coordinator."""
    return (web.folder / "reports" / "latest").resolve()


def facts_of(folder: Path) -> dict[str, object]:
    """The facts in the evidence of a report."""
    rows = map(json.loads, (folder / "evidence.jsonl").read_text().splitlines())
    return {row["key"]: row["value"] for row in rows if row["kind"] == "fact"}


def read_to(process: subprocess.Popen[str], words: str) -> tuple[str, bool]:
    """The output of a session up to the line that contains *words*, and whether there was one before its end."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if words in line:
            return said, True
    return said, False


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read the output of a session until a line contains *words*."""
    said, found = read_to(process, words)
    assert found, said
    return said


def next_after(tag: str) -> str:
    """A good release that hosts which serve *tag* do not serve."""
    return GOOD if tag == NEXT else NEXT


def until(seen: Callable[[], bool], what: str, every_s: float = 0.05) -> None:
    """Wait for something."""
    deadline = time.monotonic() + WAIT_S
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(every_s)  # poll: no event


@contextlib.contextmanager
def cut(web: Fleet, host: str) -> Iterator[None]:
    """Cut the cable to a host; its users still reach it."""
    rule = "INPUT -p tcp --dport 22 -j DROP"
    run_on(web, host, f"iptables -I {rule}")
    try:
        yield
    finally:
        run_on(web, host, f"iptables -D {rule}")


def is_closed(web: Fleet, host: str) -> bool:
    """Whether nothing is open, held or running on a host."""
    status = web.status(host)
    return not any(status[each] for each in ("open", "hold", "releasing"))


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a coordinator, which then has no time for anything."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def give_back(web: Fleet, *hosts: str) -> None:
    """End the lease of a killed coordinator, which ends by itself within two minutes, when nothing is open any more."""
    for host in hosts:
        until(lambda host=host: is_closed(web, host), f"{host} is as before", STATUS_S)  # type: ignore[misc]
        run_on(web, host, f"rm -f {STATE}/coordinator.json")


def run_on(web: Fleet, host: str, script: str) -> str:
    """Run a shell script on a host, as root in its folder."""
    return web.servers[host].run(f"cd {FOLDER}\n{script}", user="root")


BALANCER = """#!/bin/sh
case $2 in @urls@ esac
printf '%s %s %s\\n' "$1" "$2" "$(curl --silent "$url/version")" >>balancer.log
"""
WORDS = """
leave = ["./balancer", "leave", "{host}"]
join = ["./balancer", "join", "{host}"]
status = ["./balancer", "status", "{host}"]
"""


@contextlib.contextmanager
def balancer(web: Fleet) -> Iterator[Callable[[], list[tuple[str, str, str]]]]:
    """Commands that take each host out of a balancer; what they were asked, with the tag of the host at that moment."""
    config, script, log = web.folder / "cutover.toml", web.folder / "balancer", web.folder / "balancer.log"
    kept = config.read_text()
    urls = " ".join(f"{host}) url={web.url(host)} ;;" for host in HOSTS)
    script.write_text(BALANCER.replace("@urls@", urls))
    script.chmod(0o755)
    config.write_text(kept + WORDS.lstrip())
    for host in HOSTS:
        run_on(web, host, f"cp cutover.toml kept.toml; cat >>cutover.toml <<'END'{WORDS}END")

    def asked() -> list[tuple[str, str, str]]:
        rows = (line.split(maxsplit=2) for line in log.read_text().splitlines())
        return [(word, host, json.loads(answer)["version"]) for word, host, answer in rows]

    try:
        yield asked
    finally:
        config.write_text(kept)
        for host in HOSTS:
            run_on(web, host, "cat kept.toml >cutover.toml; rm kept.toml")


def test_a_good_release_reaches_all_hosts_and_no_request_fails(web: Fleet, before: str) -> None:
    """Exit 0, one report with a row a host and all their tests; each host leaves the balancer for its switch only."""
    tag = next_after(before)
    with contextlib.ExitStack() as stack:
        asked = stack.enter_context(balancer(web))
        loads = [stack.enter_context(load(web.url(host), connections=10, rate=RATE)) for host in HOSTS]
        code, said = web.release(tag)
    assert code == 0, said
    assert f"RELEASED  recall runs {tag} on 3 hosts: web-1, web-2 and web-3." in said
    assert [len(each.failed) for each in loads] == [0, 0, 0]
    assert all(each.by("blue") and each.by("green") for each in loads)
    assert web.tags() == all_serve(tag)
    words = [("leave", before), ("join", tag), ("status", tag)]
    for host in HOSTS:
        assert [(word, served) for word, asked_of, served in asked() if asked_of == host] == words
    folder = report_of(web)
    rows = facts_of(folder)["hosts"]
    assert isinstance(rows, list)
    assert [(row["host"], row["outcome"]) for row in rows] == [(host, "yes") for host in HOSTS]
    for host in HOSTS:
        assert "HELD" in (folder / host / "switch" / "report.html").read_text()
        assert (folder / host / "stage" / "evidence.jsonl").is_file()
    names = {case.get("name") for case in ET.parse(folder / "junit.xml").iter("testcase")}  # noqa: S314  # our own
    idle = web.status("web-2")["live"]
    assert {f"test_ready[web-2-{idle}]", "test_ready[web-3-live]", "switch[web-1]"} <= names
    page = (folder / "report.html").read_text()
    assert 'href="web-2/switch/report.html"' in page
    assert f"web-3 {idle}" in page


def test_one_host_that_is_bad_keeps_all_from_switching(web: Fleet, before: str) -> None:
    """A wrong env file on one host only: exit 1, no user of any host gets the new release."""
    idle = "blue" if web.status("web-2")["live"] == "green" else "green"
    run_on(
        web,
        "web-2",
        f"cp .env.{idle} kept; sed -i 's,^DATABASE_URL=.*,DATABASE_URL=postgresql://x:y@127.0.0.1:1/x,' .env.{idle}",
    )
    try:
        with contextlib.ExitStack() as stack:
            loads = {host: stack.enter_context(load(web.url(host), connections=5, rate=10)) for host in HOSTS}
            code, said = web.release(next_after(before))
    finally:
        run_on(web, "web-2", f"cat kept >.env.{idle}")
    assert code == 1, said
    assert "no host was switched, users noticed nothing" in said
    assert "web-2: stage:" in " ".join(said.split())
    assert {shot.release for each in loads.values() for shot in each.shots} == {before}
    assert not any(each.failed for each in loads.values())
    assert web.tags() == all_serve(before)


def test_a_release_that_is_bad_under_traffic_reaches_the_first_batch_only(web: Fleet, before: str) -> None:
    """The first batch reverts; the users of the other hosts never get the release."""

    def break_it() -> None:
        while web.tag("web-1") != LATE:
            time.sleep(0.1)
        color = web.status("web-1")["live"]
        run_on(web, "web-1", f"docker exec recall_{color}-api-1 touch /tmp/break")

    breaking = threading.Thread(target=break_it, daemon=True)
    breaking.start()
    with contextlib.ExitStack() as stack:
        loads = {host: stack.enter_context(load(web.url(host), connections=10, rate=RATE)) for host in HOSTS}
        code, said = web.release(LATE, "--watch=20s")
    breaking.join(30)
    assert code == 1, said
    assert "ROLLED BACK  web-1 " in said
    assert "web-2 and web-3 never switched" in said
    assert {shot.release for host in ("web-2", "web-3") for shot in loads[host].shots} == {before}
    assert not loads["web-2"].failed
    assert not loads["web-3"].failed
    assert web.tags() == all_serve(before)


OTHER_VERSION = """
rm .venv; mkdir -p .venv/bin other; cp -r @root@/cutover other/
sed -i 's/^__version__ = .*/__version__ = "0.0.9"/' other/cutover/__init__.py
printf '#!/bin/sh\\nPYTHONPATH=%s/other exec %s/bin/python -m cutover "$@"\\n' "$PWD" @prefix@ >.venv/bin/cutover
chmod 755 .venv/bin/cutover
"""
FULL_DISK = f"""
mkdir -p /full; mount -t tmpfs -o size=8m none /full; cp -a {STATE}/. /full/
dd if=/dev/zero of=/full/filler bs=4k 2>/dev/null || :
mount --bind /full {STATE}
"""


def test_all_mistakes_are_told_at_once_and_nothing_is_changed(web: Fleet, before: str) -> None:
    """Host keys, another cutover.toml or version, a full disk, an unknown name: exit 4, one line for each host."""
    known, tag = web.folder / "known_hosts", next_after(before)
    text = known.read_text()
    lines = text.splitlines(keepends=True)
    stranger = lines[0].replace("AAAAC3NzaC1lZDI1NTE5AAAAI", "AAAAC3NzaC1lZDI1NTE5AAAAIA").rstrip()[:-1]
    known.write_text("".join((stranger, "\n", *lines[2:])))
    run_on(web, "web-3", "cp cutover.toml kept.toml; echo '# another' >>cutover.toml")
    journals = [run_on(web, host, f"cat {STATE}/journal.jsonl") for host in HOSTS]
    try:
        code, said = web.release(tag)
    finally:
        known.write_text(text)
        run_on(web, "web-3", "cat kept.toml >cutover.toml; rm kept.toml")
    said = " ".join(said.split())
    assert code == 4, said
    assert "web-1: its host key has changed" in said
    assert "web-2: its host key is not known here" in said
    assert "web-3: its cutover.toml is another one than here" in said
    run_on(web, "web-2", OTHER_VERSION.replace("@root@", str(ROOT)).replace("@prefix@", sys.prefix))
    try:
        code, said = web.release(tag)
    finally:
        run_on(web, "web-2", f"rm -rf .venv other; ln -s {sys.prefix} .venv")
    assert (code, "web-2: it has pytest-cutover 0.0.9, here is" in said) == (4, True), said
    run_on(web, "web-3", FULL_DISK)
    try:
        code, said = web.release(tag)
    finally:
        run_on(web, "web-3", f"umount {STATE} /full")
    assert code == 4, said
    assert f"web-3: state directory {STATE} cannot be written: No space left on device" in " ".join(
        said.split()
    )
    code, said = web.release(tag, hosts="web-1,web-9")
    assert (code, "unknown host 'web-9'; [hosts] has web-1, web-2, web-3" in said) == (4, True), said
    assert [run_on(web, host, f"cat {STATE}/journal.jsonl") for host in HOSTS] == journals
    assert [web.status(host)["lease"] for host in HOSTS] == [None] * 3
    assert web.tags() == all_serve(before)


@pytest.mark.slow
def test_of_two_coordinators_one_is_refused_and_the_other_is_interrupted(web: Fleet, before: str) -> None:
    """Exit 12 names the first one and changes nothing; SIGINT while its second batch switches: 2, all as before."""
    both = [web.start(each, "--watch=5s") for each in {GOOD, NEXT, FIRST} - {before}]
    until(lambda: any(each.poll() is not None for each in both), "one is refused")
    both.sort(key=lambda each: each.poll() is None)
    second, first = both
    refused = second.communicate()[0]
    assert second.returncode == 12, refused
    assert "LOCKED  web-1: ana@web-1 is releasing" in refused
    assert "on several hosts; nothing was changed" in refused
    said = read_until(first, "switch[web-1]")
    first.send_signal(signal.SIGINT)
    said += first.communicate(timeout=WAIT_S)[0]
    assert first.returncode == 2, said
    assert web.tags() == all_serve(before)


def killed_while_a_batch_switches(web: Fleet, before: str) -> None:
    """web-1 holds and web-2 has just switched: its session reverts at once, web-1 at the end of its hold."""
    tag = next_after(before)
    process = web.start(tag, "--watch=2s", f"--hold={HOLD_S:g}s", hosts="web-1,web-2")
    read_until(process, "switch[web-1]")
    until(lambda: web.tag("web-2") == tag, "web-2 switches")
    kill(process)
    web.wait_for(dict.fromkeys(("web-1", "web-2"), before), HOLD_S + 10)
    give_back(web, "web-1", "web-2")


def cut_while_it_holds_and_killed_in_the_revert(web: Fleet, before: str) -> None:
    """Nobody reaches web-3 any more: it reverts at the end of its hold."""
    (tag,) = {FIRST, GOOD, NEXT} - {before, next_after(before)}
    process = web.start(tag, "--watch=2s", f"--hold={HOLD_OF_ONE_S:g}s", hosts="web-3")
    read_until(process, "switch[web-3]")
    with cut(web, "web-3"):
        web.wait_for({"web-3": before}, HOLD_OF_ONE_S + 10)
        read_until(process, "confirm[web-3]")
        kill(process)
    give_back(web, "web-3")


def test_hosts_that_hold_revert_by_themselves(web: Fleet, before: str) -> None:
    """The coordinator is killed or a cable is cut: within hold + 10 s all hosts serve what they served before."""
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(scenario, web, before)
            for scenario in (killed_while_a_batch_switches, cut_while_it_holds_and_killed_in_the_revert)
        ]
        for each in both:
            each.result()
    assert web.tags() == all_serve(before)


@pytest.mark.slow
def test_a_coordinator_that_is_killed_before_a_switch_changes_nothing(web: Fleet, before: str) -> None:
    """The hosts that are staged at that moment end their sessions, and nothing stays open."""
    process = web.start(next_after(before))
    read_until(process, "stage[")
    kill(process)
    give_back(web, *HOSTS)
    assert web.tags() == all_serve(before)


def start_confirming(web: Fleet, tag: str) -> subprocess.Popen[str]:
    """A coordinator that has just begun to confirm on web-1 and web-2."""
    process = web.start(tag, "--watch=2s", "--hold=60s", hosts="web-1,web-2")
    read_until(process, "switch[web-2]")
    begun = report_of(web) / "confirm"
    until(lambda: begun.exists() or process.poll() is not None, "it confirms")
    return process


@pytest.mark.slow
def test_a_coordinator_that_is_killed_while_it_confirms_has_confirmed_all(web: Fleet, before: str) -> None:
    """The process that confirms goes on, and all hosts keep the release."""
    tag = next_after(before)
    kill(start_confirming(web, tag))
    until(lambda: all(is_closed(web, host) for host in HOSTS), "all are confirmed", STATUS_S)
    assert [web.tag(host) for host in ("web-1", "web-2")] == [tag, tag]
    give_back(web, "web-1", "web-2")
    for host in ("web-1", "web-2"):
        run_on(web, host, ".venv/bin/cutover rollback")
    assert web.tags() == all_serve(before)


@pytest.mark.slow
def test_a_host_that_falls_silent_while_it_is_confirmed(web: Fleet, before: str) -> None:
    """If its answer came before the cut, all hosts keep the release.

    Otherwise the others are rolled back at once, and the silent host as soon as it answers again.
    """
    tag = next_after(before)
    process = start_confirming(web, tag)
    with cut(web, "web-2"):
        said, reverted = read_to(process, "revert[web-1]")
        if reverted:
            assert "as before" in said.partition("revert[web-1]")[2], said
            assert web.tag("web-1") == before
    said += process.communicate(timeout=WAIT_S)[0]
    if reverted:
        assert process.returncode == 10, said
        assert "web-2: confirm: no answer" in " ".join(said.split()), said
    else:
        assert process.returncode == 0, said
        assert "web-2 confirmed it, and since then could not be asked" in " ".join(said.split()), said
        assert [web.tag(host) for host in ("web-1", "web-2")] == [tag, tag]
        for host in ("web-1", "web-2"):
            run_on(web, host, ".venv/bin/cutover rollback")
    assert web.tags() == all_serve(before)

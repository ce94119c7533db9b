"""A release on three servers, each with sshd, a Docker engine and nginx of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from examples import releases
from tests.helpers.load import load
from tests.helpers.ssh_hosts import FOLDER, Fleet, fleet

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

FIRST, GOOD, NEXT, LATE = "sha-4400001", "sha-4400002", "sha-4400003", "sha-4400004"
HOSTS = ("web-1", "web-2", "web-3")
RATE = 40.0
SHORT_HOLD_S = 70.0


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


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read the output of a session until a line contains *words*."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if words in line:
            return said
    pytest.fail(f"{words!r} was not said\n{said}")


def run_on(web: Fleet, host: str, script: str) -> str:
    """Run a shell script on a host, as root in its folder."""
    return web.servers[host].run(f"cd {FOLDER}\n{script}", user="root")


def test_a_good_release_reaches_all_hosts_and_no_request_fails(web: Fleet, before: str) -> None:
    """Exit 0, one report with a row a host and all their tests, and no user of any host sees an error."""
    assert before == FIRST
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(load(web.url(host), connections=10, rate=RATE)) for host in HOSTS]
        code, said = web.release(GOOD)
    assert code == 0, said
    assert f"RELEASED  recall runs {GOOD} on 3 hosts: web-1, web-2 and web-3." in said
    assert [len(each.failed) for each in loads] == [0, 0, 0]
    assert all(each.by("blue") and each.by("green") for each in loads)
    assert web.tags() == all_serve(GOOD)
    folder = report_of(web)
    rows = facts_of(folder)["hosts"]
    assert isinstance(rows, list)
    assert [(row["host"], row["outcome"]) for row in rows] == [(host, "yes") for host in HOSTS]
    for host in HOSTS:
        assert "HELD" in (folder / host / "switch" / "report.html").read_text()
        assert (folder / host / "stage" / "evidence.jsonl").is_file()
    names = {case.get("name") for case in ET.parse(folder / "junit.xml").iter("testcase")}  # noqa: S314  # our own
    assert {"test_ready[web-2-green]", "test_ready[web-3-live]", "switch[web-1]"} <= names
    page = (folder / "report.html").read_text()
    assert 'href="web-2/switch/report.html"' in page
    assert "web-3 green" in page


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
            code, said = web.release(NEXT)
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


def test_all_mistakes_are_told_at_once_and_nothing_is_changed(web: Fleet, before: str) -> None:
    """A host key that has changed, another cutover.toml, an unknown name: exit 4, one line for each host."""
    known = web.folder / "known_hosts"
    text = known.read_text()
    lines = text.splitlines(keepends=True)
    stranger = (
        lines[0].replace("AAAAC3NzaC1lZDI1NTE5AAAAI", "AAAAC3NzaC1lZDI1NTE5AAAAIA")[: len(lines[0]) - 1]
        + "\n"
    )
    known.write_text(stranger + "".join(lines[2:]))
    run_on(web, "web-3", "cp cutover.toml kept.toml; echo '# another' >>cutover.toml")
    journals = [run_on(web, host, "cat /var/lib/cutover/recall/journal.jsonl") for host in HOSTS]
    try:
        code, said = web.release(NEXT)
    finally:
        known.write_text(text)
        run_on(web, "web-3", "cat kept.toml >cutover.toml; rm kept.toml")
    said = " ".join(said.split())
    assert code == 4, said
    assert "web-1: its host key has changed" in said
    assert "web-2: its host key is not known here" in said
    assert "web-3: its cutover.toml is another one than here" in said
    assert [run_on(web, host, "cat /var/lib/cutover/recall/journal.jsonl") for host in HOSTS] == journals
    code, said = web.release(NEXT, hosts="web-1,web-9")
    assert (code, "unknown host 'web-9'; [hosts] has web-1, web-2, web-3" in said) == (4, True), said
    assert web.tags() == all_serve(before)


def test_of_two_coordinators_one_is_refused(web: Fleet, before: str) -> None:
    """Exit 12 names the other one; the hosts serve the release of the one that went on."""
    first, second = web.start(NEXT), web.start(GOOD)
    said = [process.communicate(timeout=800)[0] for process in (first, second)]
    codes = [first.returncode, second.returncode]
    assert sorted(codes) == [0, 12], said
    assert before == GOOD
    refused = said[codes.index(12)]
    assert "LOCKED  web-1: ana@web-1 is releasing" in refused
    assert "on several hosts; nothing was changed" in refused
    assert web.tags() == all_serve((NEXT, GOOD)[codes.index(0)])


@pytest.mark.parametrize("words", ["stage[", "switch[web-1]", "switch[web-2]"])
def test_hosts_of_a_killed_coordinator_revert_by_themselves(web: Fleet, before: str, words: str) -> None:
    """Killed after any step: within hold + 10 s all hosts serve what they served before, and nothing is open."""
    tag = GOOD if before == NEXT else NEXT
    process = web.start(tag, "--watch=2s", f"--hold={SHORT_HOLD_S:g}s")
    read_until(process, words)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    web.wait_for(all_serve(before), SHORT_HOLD_S + 10)
    deadline = time.monotonic() + SHORT_HOLD_S + 10
    while any(web.status(host)[each] for host in HOSTS for each in ("open", "hold", "releasing")):
        assert time.monotonic() < deadline
    assert web.tags() == all_serve(before)
    for host in HOSTS:  # its lease ends by itself within two minutes
        run_on(web, host, "rm -f /var/lib/cutover/recall/coordinator.json")


def test_a_session_that_is_interrupted_reverts_all_hosts(web: Fleet, before: str) -> None:
    """SIGINT while the second host is switched: exit 2, and each host is as before."""
    tag = GOOD if before == NEXT else NEXT
    process = web.start(tag, "--watch=5s")
    said = read_until(process, "switch[web-1]")
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=300)[0]
    assert process.returncode == 2, said
    assert web.tags() == all_serve(before)


def test_a_host_that_falls_silent_takes_back_the_others(web: Fleet, before: str) -> None:
    """A cable that is cut after the first switch: the others are as before, the silent host reverts by itself."""
    tag = GOOD if before == NEXT else NEXT
    process = web.start(tag, "--watch=2s", f"--hold={SHORT_HOLD_S:g}s")
    said = read_until(process, "switch[web-1]")
    run_on(web, "web-1", "iptables -I INPUT -p tcp --dport 22 -j DROP")
    begun = time.monotonic()
    try:
        said += process.communicate(timeout=400)[0]
        assert process.returncode in {1, 10, 11}, said
        assert "web-1" in said.partition("why")[2], said
        web.wait_for(all_serve(before), max(1.0, begun + SHORT_HOLD_S + 10 - time.monotonic()))
    finally:
        run_on(web, "web-1", "iptables -D INPUT -p tcp --dport 22 -j DROP")


BALANCER = """#!/bin/sh
printf '%s %s %s\\n' "$1" "$2" "$(curl --silent @url@/version)" >>balancer.log
"""
WORDS = """
leave = ["./balancer", "leave", "{host}"]
join = ["./balancer", "join", "{host}"]
status = ["./balancer", "status", "{host}"]
"""


def test_a_host_leaves_the_balancer_for_its_switch_only(web: Fleet, before: str) -> None:
    """It is taken out before the switch and put back right after it, so that the watch sees users."""
    tag = GOOD if before == NEXT else NEXT
    config, script = web.folder / "cutover.toml", web.folder / "balancer"
    kept = config.read_text()
    script.write_text(BALANCER.replace("@url@", web.url("web-3")))
    script.chmod(0o755)
    config.write_text(kept + WORDS.lstrip())
    run_on(web, "web-3", f"cp cutover.toml kept.toml; cat >>cutover.toml <<'END'{WORDS}END")
    try:
        code, said = web.release(tag, "--watch=10s", hosts="web-3")
    finally:
        config.write_text(kept)
        run_on(web, "web-3", "cat kept.toml >cutover.toml; rm kept.toml")
    assert code == 0, said
    rows = [line.split(maxsplit=2) for line in (web.folder / "balancer.log").read_text().splitlines()]
    assert [row[:2] for row in rows] == [[word, "web-3"] for word in ("leave", "join", "status")]
    assert [json.loads(row[2])["version"] for row in rows] == [before, tag, tag]
    run_on(web, "web-3", ".venv/bin/cutover rollback")
    assert web.tags() == all_serve(before)

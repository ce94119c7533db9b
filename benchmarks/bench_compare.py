"""What a comparison of two releases finds, beside a gate, schemathesis and a plain diff of two answers.

    .venv/bin/python -m benchmarks.bench_compare [changes] [noise] [schemathesis] [speed] [load] [--dry]

Each change and each noise of `benchmarks/compare_league.py` is served beside the shop as it is. Found: it is reported;
false: a healthy service fails under the default rule. Exit code 1 if fewer than 27 changes are found or one is false.
schemathesis gets the OpenAPI document of the old release (`benchmarks/compare_openapi.py`); without the command
`schemathesis` (`uv tool install schemathesis`) its row keeps what was measured before. load: users of the live release,
with a comparison at the default rate beside them and without one in turn, each part in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import re
import shutil
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import compare_openapi, write
from benchmarks.common import LONGEST_S, Rows, asked, merged, publish, say, table
from benchmarks.compare_league import CHANGES, NOISY, REQUESTS, Change, served
from cutover.core.config_schema import Compare, Endpoint
from cutover.core.target import ControlProbe
from cutover.core.verdict import Outcome, Verdict
from cutover.gate.compare_run import ask_both, judge_comparison
from cutover.gate.comparison import Answer, Compared, Comparison, compare_all
from cutover.gate.http_checks import endpoint
from cutover.proxy.access_log import OUR_AGENT
from cutover.system.http import HttpClient, HttpResponse
from tests.helpers.http_service import Asked as Request
from tests.helpers.load import Ask, load, percentile

SECTION = "compare"
FOUND_GOAL = 27
QUICK = Compare.model_validate({"rate": 2000, "within": "1m"})
GATE = (
    Endpoint(path="/items", json={"page": 1, "items": []}),
    Endpoint(path="/items/1", json={"id": 1, "name": "item 1", "tags": [], "owner": {}}),
    Endpoint(path="/about"),
)
SPEED = 1000
USERS, USERS_RATE, ROUNDS, ROUND_S = 20, 50, 8, 8.0
SPAWN = multiprocessing.get_context("spawn")
USERS_ASK = (
    Ask("GET", "/items/7"),
    Ask("GET", "/items?page=2", every=2),
    Ask("GET", "/search?q=12", every=3),
)
BESIDE = Compare.model_validate({"within": f"{ROUND_S:g}s"})
SCHEMATHESIS = "schemathesis"
NAMED = re.compile(r"^- (ST\d+ .*)$", re.MULTILINE)


def both(old: Sequence[Change], new: Sequence[Change]) -> tuple[Comparison, Verdict, bool, bool]:
    """Comparison and verdict of two shops, whether the gate passes on the new one, and whether a plain diff is empty."""
    with (
        served(*old) as old_url,
        served(*new) as new_url,
        HttpClient(old_url, 5.0) as live,
        HttpClient(new_url, 5.0) as idle,
    ):
        rows = [*ask_both(REQUESTS, live, idle, QUICK)]
        control = ControlProbe(lambda: True)
        passes = all(endpoint(idle, control, each).outcome is Outcome.YES for each in GATE)
        same = all(_plain(live, path) == _plain(idle, path) for path in (each.path for each in REQUESTS))
    found = compare_all(rows, names=("sha-1", "sha-2", "blue", "green"), now=time.time())
    return found, judge_comparison(found, QUICK), passes, same


def _plain(client: HttpClient, path: str) -> tuple[int, str]:
    got = client.send("GET", path)
    return (got.status, got.body) if isinstance(got, HttpResponse) else (0, "")


def measure_changes(where: str) -> dict[str, Any]:
    """Which changes each of the three finds."""
    rows: dict[str, Any] = {}
    for n, (name, change) in enumerate(CHANGES.items()):
        found, verdict, passes, same = both((), (change,))
        said = found.groups[0].text if found.groups else ""
        rows[name] = {
            "held_out": bool(n % 2), "found": bool(found.groups), "fails": verdict.outcome is Outcome.NO,
            "gate": not passes, "diff": not same, "groups": len(found.groups), "said": said,
        }  # fmt: skip
        say(f"{name}: {'found' if found.groups else 'MISSED'} ({len(found.groups)}) {said}")
    return {"cases": rows, "where": where}


def measure_noise(where: str) -> dict[str, Any]:
    """Which healthy services each of the three calls bad, and what is reported of them."""
    rows: dict[str, Any] = {}
    for n, (name, noise) in enumerate(NOISY.items()):
        found, verdict, passes, same = both((noise(),), (noise(),))
        said = found.groups[0].text if found.groups else ""
        rows[name] = {
            "held_out": bool(n % 2), "false": verdict.outcome is Outcome.NO, "reported": len(found.groups),
            "gate": not passes, "diff": not same, "said": said,
        }  # fmt: skip
        say(f"{name}: {'FALSE' if rows[name]['false'] else 'kept'}, {len(found.groups)} reported {said}")
    return {"cases": rows, "where": where}


def measure_schemathesis(where: str) -> dict[str, Any]:
    """Which changes and which healthy services schemathesis names, with its defaults and a fixed seed."""
    command = shutil.which(SCHEMATHESIS)
    if command is None:
        say(f"{SCHEMATHESIS}: not measured; install it: uv tool install {SCHEMATHESIS}")
        return {}
    version = subprocess.run(
        (command, "--version"), check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    rows: dict[str, Any] = {"as it is": {}, "changes": {}, "noise": {}}
    for kind, n, name, change in _services():
        # It keeps a folder of its own where it runs.
        with served(*change) as url, TemporaryDirectory() as folder:
            done = subprocess.run(
                (command, "run", f"{url}{compare_openapi.PATH}", "--no-color", "--seed=7", "--max-failures=1"),
                cwd=folder, check=False, capture_output=True, text=True, timeout=LONGEST_S,
            )  # fmt: skip
        if done.returncode not in {0, 1}:
            raise RuntimeError(f"{SCHEMATHESIS} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        said = sorted(set(NAMED.findall(done.stdout)))
        rows[kind][name] = {"held_out": bool(n % 2), "named": bool(done.returncode), "said": said}
        say(f"{name or 'the shop as it is'}: {', '.join(said) or 'nothing'}")
    if rows["as it is"][""]["named"]:
        raise RuntimeError(f"{SCHEMATHESIS} fails the old release: {rows['as it is']}")
    return rows | {"version": version, "where": where}


def _services() -> Iterator[tuple[str, int, str, tuple[Change, ...]]]:
    """Kind, number, name and changes of each service: the old release first, then the league's."""
    yield "as it is", 0, "", ()
    yield from (("changes", n, name, (change,)) for n, (name, change) in enumerate(CHANGES.items()))
    yield from (("noise", n, name, (noise(),)) for n, (name, noise) in enumerate(NOISY.items()))


def measure_speed(where: str) -> dict[str, Any]:
    """Seconds that 1,000 comparisons take beside the requests' own time."""
    with served() as url, HttpClient(url, 5.0) as client:
        begun = time.monotonic()
        rows = [*ask_both(REQUESTS, client, client, QUICK)]
        asking_s = (time.monotonic() - begun) * SPEED / len(rows)
    many: list[Compared] = []
    for n in range(SPEED):
        row = rows[n % len(rows)]
        changed = (
            replace(row.new, body=row.new.body.replace("item", "thing"))
            if isinstance(row.new, Answer)
            else None
        )
        many.append(replace(row, new=changed))
    begun = time.monotonic()
    compare_all(many, now=time.time())
    return {"seconds": time.monotonic() - begun, "asking_s": asking_s, "where": where}


def measure_load(where: str) -> dict[str, Any]:
    """Latency of users of the live release without and with a comparison beside them, and the rate of the latter."""
    spans: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    with (
        _apart(_serve) as (live, old_url),
        _apart(_serve) as (_, new_url),
        load(old_url, connections=USERS, rate=USERS_RATE, asks=USERS_ASK) as users,
    ):
        while len(users.shots) < 2 * USERS:  # each connection has been used
            time.sleep(0.05)  # poll: the load runs in a thread that signals no single request
        for _ in range(ROUNDS):
            begun = time.monotonic()
            time.sleep(ROUND_S)  # the span that is measured: users alone
            spans["without"].append((begun, time.monotonic()))
            with _apart(_compare, old_url, new_url) as (comparison, _):
                begun = time.monotonic()
                comparison.recv()
                spans["with"].append((begun, time.monotonic()))
        live.send("")
        times: list[float] = live.recv()
    latency = {
        name: [each for span in found for each in users.latencies(*span)] for name, found in spans.items()
    }
    rows: dict[str, Any] = {
        name: {"requests": len(found)}
        | {f"p{share}": percentile(sorted(found), share / 100) for share in (50, 95, 99)}
        for name, found in latency.items()
    }
    most = max(bisect_left(times, at + 1.0) - n for n, at in enumerate(times))
    more = {"failed": len(users.failed), "asked": len(times), "most_in_a_second": most}
    return rows | more | {"where": where}


def _compare(pipe: Connection, old_url: str, new_url: str) -> None:
    """Compare as a release does, at the default rate; tell when it begins and ends."""
    with HttpClient(old_url, 5.0) as live, HttpClient(new_url, 5.0) as idle:
        pipe.send("begun")
        compare_all(ask_both(REQUESTS, live, idle, BESIDE), now=time.time())
        pipe.send("ended")


def _serve(pipe: Connection) -> None:
    """Serve the shop until something comes through *pipe*; then send when the comparison asked."""
    times: list[float] = []

    def heard(asked: Request) -> None:
        if asked.headers.get("user-agent") == OUR_AGENT:
            times.append(time.monotonic())

    with served(heard=heard) as url:
        pipe.send(url)
        pipe.recv()
        pipe.send(sorted(times))


@contextmanager
def _apart(target: Callable[..., None], *given: str) -> Iterator[tuple[Connection, str]]:
    """*target* in a process of its own, so that it shares no interpreter with the users; the first that it sends."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(theirs, *given), daemon=True)
    process.start()
    try:
        yield ours, ours.recv()
    finally:
        process.terminate()
        process.join()


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    changes, noise = (rows.get(name, {}).get("cases", {}) for name in ("changes", "noise"))
    lines = [
        "## Old against new",
        "",
        "`python -m benchmarks.bench_compare`, on the league of `benchmarks/compare_league.py`:",
    ]
    lines += [
        "changes of behavior that status and schema checks of a gate mostly pass, and healthy services that answer"
    ]
    lines += ["differently each time. It was frozen before tuning; the odd half of it is held out.", ""]
    if changes and noise:
        cells: list[tuple[str, ...]] = []
        for name, found, false in (
            ("`compare`, reported", "found", "reported"),
            ("`compare`, default rule", "fails", "false"),
            ("gate alone", "gate", "gate"),
            ("plain diff of two answers", "diff", "diff"),
        ):
            cells.append((name, *_shares(changes, found), *_shares(noise, false)))
        if theirs := rows.get("schemathesis"):
            cells.append((
                f"schemathesis {theirs['version']}", *_shares(theirs["changes"], "named"), *_shares(theirs["noise"], "named"),
            ))  # fmt: skip
        else:
            cells.append(("schemathesis", *["not measured"] * 4))
        head = ("", "changes found", "of those held out", "healthy ones named", "of those held out")
        lines += [*table(head, cells), ""]
        missed = [name for name, row in changes.items() if not row["found"]]
        named = [f"{name} ({row['said']})" for name, row in noise.items() if row["reported"]]
        lines += [
            f"Not found: {', '.join(missed) or 'none'}. Reported of healthy ones: {'; '.join(named) or 'nothing'}.",
            "schemathesis has its defaults, a fixed seed, and the OpenAPI document of the old release.",
        ]
    if speed := rows.get("speed"):
        lines += [
            "",
            f"Comparing {SPEED:,} requests takes {speed['seconds']:.2f} s beside their own {speed['asking_s']:.1f} s (goal: 10 s).",
        ]
    if users := rows.get("load"):
        without, beside = users["without"], users["with"]
        lines += [
            "",
            *table(
                (f"users of the live release, {USERS_RATE} requests a second", "requests", "p50", "p95", "p99"),
                [(name, f"{row['requests']:,}", *(f"{row[key] * 1000:.1f} ms" for key in ("p50", "p95", "p99")))
                 for name, row in (("no comparison", without), ("a comparison beside them", beside))],
            ),
            "",
            f"{users['failed']} of them failed. The comparison is at the default rate of {BESIDE.rate:g} requests a second:",
            f"the live release got {users['asked']:,} of it, at most {users['most_in_a_second']} within a second.",
            f"Each row is {ROUNDS} times {ROUND_S:g} s, in turn.",
        ]  # fmt: skip
    return lines


def _shares(cases: dict[str, Any], key: str) -> tuple[str, str]:
    """How many of all, and of those held out."""
    both = [*cases.values()], [row for row in cases.values() if row["held_out"]]
    every, held_out = (f"{sum(bool(row[key]) for row in rows)} of {len(rows)}" for rows in both)
    return every, held_out


def main() -> int:
    """Measure, print and write the results; 1 if a goal is missed."""
    measures = {
        "changes": measure_changes, "noise": measure_noise, "schemathesis": measure_schemathesis, "speed": measure_speed,
        "load": measure_load,
    }  # fmt: skip
    given = asked(__doc__, tuple(measures))
    where = write.machine()
    fresh = {name: measures[name](where) for name in given.names}
    rows = merged(SECTION, {name: row for name, row in fresh.items() if row})
    publish(SECTION, told(rows), rows, dry=given.dry)
    found = sum(row["found"] for row in rows.get("changes", {}).get("cases", {}).values())
    false = sum(row["false"] for row in rows.get("noise", {}).get("cases", {}).values())
    return 1 if false or ("changes" in given.names and found < FOUND_GOAL) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure the overhead of the gate in paired, interleaved runs.

    .venv/bin/python benchmarks/bench_overhead.py [gate] [deploy] [locked] [--times N] [--dry]

gate    `pytest smoke` on a ready target, against a pytest session with the same plugins and one empty test
deploy  a deploy through the gate, against a bare `docker compose up -d --wait` of the same image change;
        `min_uptime = 0s`, because that wait is intended and would hide work done meanwhile; the HEALTHCHECK
        interval is 0.2 s on both sides, because at 1 s either side can take one interval longer
locked  a second release while the first one is being watched, which exits 12, against the same empty session

Bytecode is written and used, as in normal operation. About 15 s per pair; exit code 1 if a goal is missed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks import write
from benchmarks.common import (
    REPO,
    Rows,
    asked,
    begin,
    built,
    merged,
    publish,
    require,
    say,
    stand,
    table,
    timed,
)
from examples.stand import REPOSITORY, Result, Stand, free_ports

SECTION = "overhead"
PAIRS = 5
LONGEST_S = 300.0
GOALS = {"gate": 1.5, "deploy": 2.0, "locked": 0.5}
ABOUT = {
    "gate": ("`pytest smoke --target=live` on a ready target", "an empty pytest session, same plugins"),
    "deploy": ("`pytest smoke --target=idle --deploy=…`", "`docker compose up -d --wait`, same change"),
    "locked": ("a second `--deploy` while one is open: exit 12", "an empty pytest session, same plugins"),
}
Pair = tuple[Callable[[], Result], Callable[[], Result]]


def empty(on: Stand) -> Callable[[], Result]:
    """Return a function that runs a session with the same plugins and settings and one empty test."""
    folder = on.folder / "empty"
    folder.mkdir(exist_ok=True)
    (folder / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    words = (f"--config-file={REPOSITORY / 'pyproject.toml'}", str(folder))
    return lambda: require(on.pytest(*words), 0)


@contextmanager
def gate(on: Stand) -> Iterator[Pair]:
    """The gate on a target that has been ready for some time."""
    yield (lambda: require(on.pytest("smoke", "--target=live"), 0), empty(on))


@contextmanager
def deploy(on: Stand) -> Iterator[Pair]:
    """Two images in turn, deployed to the idle color by the gate and to a separate project by bare Compose."""
    tags = [built("overhead one"), built("overhead two")]
    bare = Bare(on)
    turns = {"ours": 0, "bare": 0}

    def tag(who: str) -> str:
        turns[who] += 1
        return tags[turns[who] % 2]

    def ours() -> Result:
        return require(on.pytest("smoke", "--target=idle", f"--deploy={tag('ours')}"), 0)

    def theirs() -> Result:
        return require(bare.up(tag("bare")), 0)

    try:
        ours()
        theirs()
        yield ours, theirs
    finally:
        bare.down()


@contextmanager
def locked(on: Stand) -> Iterator[Pair]:
    """A second release, rejected because a first one holds the lock."""
    tag = built("overhead two")
    words = ("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", f"--watch={LONGEST_S:.0f}s")
    with subprocess.Popen(
        on.pytest_words(*words), env=on.shell(), cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as first:  # fmt: skip
        try:
            wait_for_the_watch(on, first)
            second = lambda: require(on.pytest("smoke", "--target=idle", "--deploy=sha-0000000"), 12)  # noqa: E731
            yield second, empty(on)
        finally:
            first.terminate()


def wait_for_the_watch(on: Stand, first: subprocess.Popen[bytes]) -> None:
    """Wait until the first release has switched and is being watched."""
    end = time.monotonic() + LONGEST_S
    while not (on.state / "open").exists() or on.ask().get("color") != "green":
        if first.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the first release ended with {first.returncode}")
        time.sleep(0.1)  # poll: a switch by another process raises no event here


class Bare:
    """The same Compose file in a separate project, deployed without the gate."""

    def __init__(self, on: Stand) -> None:
        self.on, self.env_file = on, on.folder / "deploy" / ".env.bare"
        self.port, self.project = free_ports(1)[0], f"{on.name}_bare"

    def compose(self, *words: str) -> Result:
        """Run Compose on the project."""
        flags = (
            "--file",
            str(self.on.folder / "deploy" / "docker-compose.yml"),
            "--env-file",
            str(self.env_file),
        )
        done = subprocess.run(
            ("docker", "compose", *flags, "--project-name", self.project, *words), env=self.on.shell(),
            capture_output=True, text=True, check=False, timeout=LONGEST_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Result(done.returncode, done.stdout + done.stderr)

    def up(self, tag: str, *, wait: bool = True) -> Result:
        """Recreate the containers with another image; with *wait*, until they are healthy."""
        values = {
            "IMAGE_REPO": REPO, "IMAGE_TAG": tag, "COMPOSE_PROJECT_NAME": self.project, "API_HTTP_PORT": self.port,
            "SHARED_NETWORK": f"{self.on.name}_shared", "SHARED_VOLUME": f"{self.on.name}_data",
        }  # fmt: skip
        self.env_file.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        return self.compose("up", "--detach", *(("--wait",) if wait else ()))

    def down(self) -> None:
        """Remove the containers; network and volumes belong to the stand."""
        self.compose("down")


ROWS = {"gate": gate, "deploy": deploy, "locked": locked}


def measure(on: Stand, name: str, times: int) -> tuple[list[float], list[float]]:
    """Seconds of the measured command and of its baseline, in turns, after one warm-up run of each."""
    ours: list[float] = []
    theirs: list[float] = []
    with ROWS[name](on) as (mine, other):
        mine()
        other()
        for _ in range(times):
            theirs.append(timed(other)[0])
            ours.append(timed(mine)[0])
    return ours, theirs


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    cells = []
    for name, row in rows.items():
        more, goal = extra(row), GOALS[name]
        word = "" if more <= goal else " **missed**"
        shown = [f"{statistics.median(row[each]):.2f} s" for each in ("ours", "theirs")]
        span = f"{min(row['more']):.2f} to {max(row['more']):.2f}"
        cells.append(
            (*ABOUT[name], len(row["ours"]), *shown, f"**{more:.2f} s**{word} ({span})", f"≤ {goal} s")
        )
    return [
        "## What it costs",
        "",
        "`python benchmarks/bench_overhead.py`: medians of paired, interleaved runs on one stand; `min_uptime = 0s`,",
        "for that waiting is on purpose; the HEALTHCHECK asks each 0.2 s on both sides, for at its own pace of a second",
        "either side jumps by a second at times. More: the median of the pairs' differences (smallest to largest).",
        "",
        *table(("ours", "beside", "pairs", "ours", "the other", "more", "goal"), cells),
    ]


def ask_often(on: Stand) -> None:
    """Set the HEALTHCHECK interval to 0.2 s, so that waiting for healthy adds at most that to the time."""
    file = on.folder / "deploy" / "docker-compose.yml"
    text, service = file.read_text(encoding="utf-8"), "  api:\n"
    if text.count(service) != 1:
        raise RuntimeError(f"{file}: no service api to be asked often")
    file.write_text(
        text.replace(service, f"{service}    healthcheck: {{interval: 200ms}}\n"), encoding="utf-8"
    )


def extra(row: Mapping[str, Any]) -> float:
    """Median of the differences of the pairs."""
    return float(statistics.median(row["more"]))


def main() -> int:
    """Measure, print and write the results; 1 if a goal is missed."""
    options = asked(__doc__, tuple(ROWS), PAIRS)
    where, rows = write.machine(), {}
    with stand("overhead", min_uptime="0s") as on:
        ask_often(on)
        begin(on, built("overhead live"))
        for name in options.names:
            ours, theirs = measure(on, name, options.times)
            more = [one - other for one, other in zip(ours, theirs, strict=True)]
            rows[name] = {"ours": ours, "theirs": theirs, "more": more, "where": where}
            say(f"{name:8} {statistics.median(more):6.2f} s more")
    publish(SECTION, told(merged(SECTION, rows)), merged(SECTION, rows), dry=options.dry)
    return 1 if any(extra(row) > GOALS[name] for name, row in rows.items()) else 0


if __name__ == "__main__":
    sys.exit(main())

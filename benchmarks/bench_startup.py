"""Start-up: this checkout beside another one of the same project, interleaved.

    .venv/bin/python -m benchmarks.bench_startup --before CHECKOUT [--times N] [--dry]

CHECKOUT is another clone with a `.venv` of its own. Each checkout gets an example service with a proxy, released and
ready. Rows: a pytest session of one empty test without the plugin's options (the plugin is loaded and does nothing),
the same with the plugins of a gate, the gate `pytest smoke --target=live`, and `cutover status`. Bytecode is written
before the first measured run. Writes the section `startup` of benchmarks/README.md; about 3 s a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import write
from benchmarks.common import say, table

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "benchmarks" / "README.md"
ROUNDS = 15
ROWS = {
    "inert": "a pytest session of one empty test, plugin installed, no `--target`",
    "empty": "the same with the plugins of a gate",
    "gate": "`pytest smoke --target=live` on a service that is ready",
    "status": "`cutover status`",
}
DEADLINE_S = 60.0
# Runs inside the other checkout, whose modules may have other names.
SERVE = """
import json, sys
try:
    from benchmarks.common import begin, built, stand
    quick = {"min_uptime": "0s"}
except ImportError:
    from tests.bench.common import begin, built, stand
    quick = {"min_healthy": "0s"}
with stand("startup", **quick) as on:
    begin(on, built("overhead live"))
    empty = on.folder / "empty"
    empty.mkdir()
    (empty / "test_nothing.py").write_text("def test_nothing():\\n    pass\\n")
    (empty / "pytest.ini").write_text("[pytest]\\n")
    config = f"--config-file={empty / 'pytest.ini'}"
    environment = on.shell()
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    commands = {
        "inert": (sys.executable, "-m", "pytest", "-p", "cutover.plugin", config, str(empty)),
        "empty": on.pytest_words(config, str(empty)),
        "gate": on.pytest_words("smoke", "--target=live"),
        "status": (sys.executable, "-m", "cutover", "status", f"--cutover-config={on.config}"),
    }
    print(json.dumps({"commands": commands, "environment": environment}), flush=True)
    sys.stdin.read()
"""


@contextmanager
def served(checkout: Path) -> Iterator[Mapping[str, Any]]:
    """Command lines and environment of a service that the code of *checkout* has released, until the block ends."""
    python = checkout / ".venv" / "bin" / "python"
    with subprocess.Popen(
        (str(python), "-c", SERVE), cwd=checkout, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("no pipes")
        line = child.stdout.readline()
        while line and not line.startswith('{"commands"'):
            line = child.stdout.readline()
        yield json.loads(line)
        child.stdin.close()


def seconds_of(checkout: Path, service: Mapping[str, Any], name: str) -> float:
    """Wall seconds of one run of the command *name*."""
    argv = service["commands"][name]
    begun = time.perf_counter()
    done = subprocess.run(
        argv,
        cwd=checkout,
        env=service["environment"],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
    )
    spent = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{argv} ended with {done.returncode}: {done.stdout.decode()[-2000:]}")
    return spent


def measure(checkouts: Mapping[str, Path], times: int) -> dict[str, dict[str, list[float]]]:
    """Row -> checkout -> seconds, one run of each in turn, after one of each that warms up."""
    found: dict[str, dict[str, list[float]]] = {name: {each: [] for each in checkouts} for name in ROWS}
    with served(checkouts["before"]) as old, served(checkouts["now"]) as new:
        services = {"before": old, "now": new}
        for number in range(times + 1):
            for name in ROWS:
                for each, checkout in checkouts.items():
                    spent = seconds_of(checkout, services[each], name)
                    if number:
                        found[name][each].append(spent)
    return found


def lines(found: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    """The section: medians, ratios of both checkouts, and of the gate to an empty session."""
    middle = {
        name: {each: statistics.median(row) for each, row in rows.items()} for name, rows in found.items()
    }
    rows = [
        (
            ROWS[name],
            f"{1000 * each['before']:.0f} ms",
            f"{1000 * each['now']:.0f} ms",
            f"{each['now'] / each['before']:.2f}",
        )
        for name, each in middle.items()
    ]
    ratios = {each: middle["gate"][each] / middle["empty"][each] for each in ("before", "now")}
    return [
        "## Start-up",
        "",
        "`python -m benchmarks.bench_startup --before CHECKOUT`: medians, both checkouts in turn in one run.",
        "",
        *table(("what", "before", "now", "now / before"), rows),
        "",
        f"Gate / empty session with the same plugins: {ratios['now']:.2f} (before: {ratios['before']:.2f}).",
    ]


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--times", type=int, default=ROUNDS, help=f"rounds ({ROUNDS})")
    parser.add_argument("--dry", action="store_true", help="print only")
    given = parser.parse_args()
    where = write.machine()
    found = measure({"before": given.before.resolve(), "now": ROOT}, given.times)
    text = "\n".join([*lines(found), "", f"Measured: {where}, {given.times} rounds."])
    say(text)
    if not given.dry:
        write.section("startup", text, PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())

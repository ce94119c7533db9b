"""Measure which bad releases the gate rejects before they get traffic, and which good but noisy ones it keeps.

    .venv/bin/python benchmarks/bench_defects.py [defect …] [--dry]

Each is a real session, `pytest smoke --target=idle --deploy=…`, on one stand with a verified live release that logs
an old, known error every 12 s. Afterwards users are asked, through the proxy, which release answers them. A release
of the data (seen "migration") has the whole preparation: snapshot, restored copy, the live image on the new schema.
About 15 s a row; it ends with 1 when something was MISSED or reverted for nothing.
"""

from __future__ import annotations

import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import write
from benchmarks.common import Rows, asked, begin, built, merged, publish, say, stand, table, timed
from cutover.core.evidence import load_evidence
from cutover.core.verdict import Outcome
from examples.catalogue import DEFECTS, Seen
from examples.stand import Stand

SECTION = "defects"
LIVE = "baseline-errors"
# A good release stays on the idle color and is the revert target of the next, so good ones run after the bad ones,
# with the slow one last. Migrations run last of all, because every later release would see their schema.
ORDER = (Seen.BEFORE_TRAFFIC, Seen.NEVER, Seen.MIGRATION)
NAMES = tuple(
    each.name
    for seen in ORDER
    for each in sorted(DEFECTS.values(), key=lambda one: one.name == "slow-start")
    if each.seen is seen
)
LONGEST = 110
# Without a snapshot there is no copy for the rehearsal, and a breaking migration is detected too late.
SNAPSHOT = """
[snapshot]
enabled = true
"""


@dataclass(frozen=True, slots=True)
class Row:
    """Result of one release."""

    seen: str
    expected: int
    code: int
    seconds: float
    caught_by: str
    serves: str
    live: str
    where: str
    said: str = ""
    """The last lines of output if the exit code was unexpected."""

    @property
    def word(self) -> str:
        """The assessment shown in the table."""
        if self.serves != self.live:
            return "**MISSED: users met it**"
        if self.code == self.expected:
            return "kept" if self.code == 0 else "caught"
        return "**MISSED**" if self.expected else "**ROLLED BACK FOR NOTHING**"


def measure(on: Stand, name: str, live: str, where: str) -> Row:
    """Deploy the release with the defect *name*, then request the version through the proxy."""
    defect, tag = DEFECTS[name], built(name, name)
    more = () if defect.seen is Seen.MIGRATION else ("--skip-migrations",)
    before = reports(on)
    seconds, done = timed(lambda: on.pytest("smoke", "--target=idle", f"--deploy={tag}", *more))
    new = sorted(reports(on) - before)
    seen = first_no(new[0]) if new else done.out.strip().splitlines()[-1]
    expected = 0 if defect.seen is Seen.NEVER else 1
    return Row(
        seen=defect.seen.value,
        expected=expected,
        code=done.code,
        seconds=round(seconds, 1),
        caught_by=seen[:LONGEST],
        serves=str(on.ask().get("version", "nothing")),
        live=live,
        where=where,
        said="" if done.code == expected else done.last,
    )


def reports(on: Stand) -> set[Path]:
    """Report folders of the stand's sessions."""
    return {
        each.parent
        for each in (on.folder / "reports").glob("*/evidence.jsonl")
        if not each.parent.is_symlink()
    }


def first_no(folder: Path) -> str:
    """The first check with the outcome no or unknown, else the first such step."""
    evidence = load_evidence(folder / "evidence.jsonl")
    for check in evidence.checks:
        if check.verdict.outcome in {Outcome.NO, Outcome.UNKNOWN}:
            return f"{re.sub(r'^.*/(?=test_)', '', check.test)}: {check.verdict.reason}"
    return next(
        (f"{step.name}: {step.text}" for step in evidence.steps if step.outcome in {"no", "unknown"}), ""
    )


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    found = {name: Row(**rows[name]) for name in NAMES if name in rows}
    bad = [row for row in found.values() if row.expected]
    noisy = [row for row in found.values() if not row.expected]
    caught, kept = sum(row.word == "caught" for row in bad), sum(row.word == "kept" for row in noisy)
    cells = [
        (name, row.seen, f"{row.code}", f"{row.seconds:.0f} s", row.caught_by or "-", serving(row), row.word)
        for name, row in found.items()
    ]
    return [
        "## Bad releases and noisy ones",
        "",
        f"`python benchmarks/bench_defects.py`: **{caught} of {len(bad)} bad releases caught before users met them,",
        f"{kept} of {len(noisy)} good but noisy ones kept**, {sum(row.seconds for row in found.values()):.0f} s in all.",
        "Each is a whole session `pytest smoke --target=idle --deploy=…` with `min_uptime = 5s`; the live release",
        "logs an error every 12 s, as one does. What serves afterwards was asked through the proxy.",
        "",
        *table(("release", "shows", "exit", "time", "first no", "serves afterwards", ""), cells),
    ]


def serving(row: Row) -> str:
    """The release that users get, as shown in the table."""
    return "the live release" if row.serves == row.live else row.serves


def main() -> int:
    """Measure, print and write the results; 1 if a bad release was missed or a good one reverted."""
    options = asked(__doc__, NAMES)
    where, rows = write.machine(), {}
    for name in options.names:
        built(name, name)
    with stand("defects", migrate=True, extra=SNAPSHOT) as on:
        live = built(f"live {LIVE}", LIVE)
        begin(on, live)
        for name in options.names:
            row = measure(on, name, live, where)
            say(f"{name:20} exit {row.code:2}  {row.seconds:5.1f} s  {row.word:8}  {row.caught_by}")
            say(row.said) if row.said else None
            rows[name] = asdict(row) | {"said": ""}
    publish(SECTION, told(merged(SECTION, rows)), merged(SECTION, rows), dry=options.dry)
    wrong = [
        name for name, row in rows.items() if row["code"] != row["expected"] or row["serves"] != row["live"]
    ]
    if wrong:
        say(f"\nWRONG: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

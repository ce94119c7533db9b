"""Measure how soon users are back on the old color, for the same defect in each phase from the switch to the commit.

    python -m benchmarks.bench_phases [proof] [gate] [drain] [watch] [--times N] [--dry]

proof   the new color answers 500 to everybody from the moment of the switch
gate    from the end of the proof on, while the gate runs through the proxy
drain   from the end of that gate on, while the old color still has requests of twelve seconds
watch   some seconds after the drain

Load: 100 keep-alive connections with 50 requests/s open loop. The number is the time from the first bad answer of a
user until the old color serves all requests again; goal: at most 2 s. About 40 s each; exit code 1 if it was missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import write
from benchmarks.bench_cutover import back, evidence, reports
from benchmarks.common import (
    CONNECTIONS,
    RATE,
    Rows,
    asked,
    begin,
    built,
    merged,
    publish,
    say,
    stand,
    table,
    users,
)
from examples.stand import REPOSITORY, Stand, latest
from tests.helpers.load import Ask, Load, load

SECTION = "phases"
# The step that was recorded last when the defect begins; None: at the switch itself.
PHASES: dict[str, str | None] = {"proof": None, "gate": "proof", "drain": "smoke[live]", "watch": "drain"}
ASKS = (Ask("GET", "/version"),)
LONG = (Ask("GET", "/slow?seconds=12"),)
LONG_CONNECTIONS, LONG_RATE = 12, 1
WATCH_LATER_S = 3.0
GOAL_S = 2.0
LONGEST_S = 600.0
POLL_S = 0.002


def release(on: Stand, tag: str, phase: str) -> tuple[int, Load]:
    """Release *tag* under load, with the defect beginning in *phase*; exit code and load results."""
    words = on.pytest_words("smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", "--watch=30s")
    said, before = on.folder / "said", reports(on)
    new = "green" if on.ask()["color"] == "blue" else "blue"
    with (
        load(on.url, connections=LONG_CONNECTIONS, rate=LONG_RATE, asks=LONG, longest_s=LONGEST_S),
        users(on.url, ASKS) as seen,
        said.open("w") as out,
        subprocess.Popen(
            words, env=on.shell(), cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        ) as session,
    ):
        break_it(on, session, phase, new, tag, before)
        code = session.wait(LONGEST_S)
    if code != 1:
        say(said.read_text()[-3000:])
    return code, seen


def break_it(
    on: Stand, session: subprocess.Popen[bytes], phase: str, new: str, tag: str, before: frozenset[Path]
) -> None:
    """Make the *new* color answer 500 when *phase* begins; no command is started then, which would take too long."""
    name, step = f"{on.project(new)}-api-1", PHASES[phase]
    root = Path("/")
    while session.poll() is None and root == Path("/"):
        pid = _pid(on, name, tag)
        root = Path(f"/proc/{pid}/root") if pid else root
        time.sleep(0.05)
    while session.poll() is None and not (
        (on.marker / new).exists() if step is None else f'"name": "{step}' in evidence(on, before)
    ):
        time.sleep(POLL_S)  # poll: a write of another process raises no event here
    if phase == "watch":
        time.sleep(WATCH_LATER_S)
    if session.poll() is None:
        (root / "tmp" / "break").touch()


def _pid(on: Stand, name: str, tag: str) -> int:
    """The process of the container *name* if it runs *tag*, else 0."""
    found = json.loads(on.docker("inspect", name, check=False) or "[]")
    return found[0]["State"]["Pid"] if found and found[0]["Config"]["Image"].endswith(tag) else 0


def row(on: Stand, tag: str, code: int, seen: Load, where: str) -> dict[str, Any]:
    """The results of one release."""
    result = next(
        json.loads(line)["value"]
        for line in (latest(on.folder) / "evidence.jsonl").read_text(encoding="utf-8").splitlines()
        if '"key": "result"' in line
    )
    reasons = result.get("reasons") or [{"text": ""}]
    return {
        "code": code,
        "failed": len(seen.failed),
        "told": result.get("failed_requests"),
        "back_s": back(seen, tag),
        "reason": reasons[0]["text"],
        "where": where,
    }


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    cells = [
        (
            name,
            f"**{one['back_s']:.2f} s**" if one["back_s"] is not None else "-",
            one["failed"],
            one["told"],
            one["reason"][:110],
        )
        for name, one in rows.items()
    ]
    return [
        "## The same defect in each phase",
        "",
        "`python -m benchmarks.bench_phases`: every answer of the new color is a 500 from the given phase on, while",
        f"{CONNECTIONS} kept-alive connections ask {RATE} times a second, open loop. From the first bad answer until the",
        f"old color serves all requests again (goal: ≤ {GOAL_S:g} s); failed requests, as the load and as the last lines say.",
        "",
        *table(("phase", "first bad answer to the flip", "failed", "told", "reason"), cells),
    ]


def missed(one: dict[str, Any]) -> bool:
    """Whether the goal was missed."""
    return bool(one["code"] != 1 or one["back_s"] is None or one["back_s"] > GOAL_S)


def measure(names: Sequence[str], times: int, where: str) -> Rows:
    """Measure the phases *names*."""
    tag, rows = built("breaks-later", "breaks-later"), Rows()
    with stand("phases") as on:
        begin(on, built("cutover live"))
        for name in names:
            for turn in range(times):
                label = name if times == 1 else f"{name} {turn + 1}"
                code, seen = release(on, tag, name)
                one = rows[label] = row(on, tag, code, seen, where)
                say(
                    f"{label}: exit {code}, {one['failed']} failed, told {one['told']}, back {one['back_s']}: {one['reason']}"
                )
    return rows


def main() -> int:
    """Measure, print and write the results; 1 if a goal was missed."""
    options, where = asked(__doc__, tuple(PHASES)), write.machine()
    rows = measure(options.names, options.times, where)
    both = merged(SECTION, rows)
    publish(SECTION, told(both), both, dry=options.dry)
    return 1 if any(map(missed, rows.values())) else 0


if __name__ == "__main__":
    sys.exit(main())

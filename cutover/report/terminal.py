"""The lines of a session in a terminal or a CI log: pure functions from values to text.

Colors are added on a terminal only; the text is the same without them because marks say the same.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cutover.core.evidence import Check, Step
from cutover.core.masking import printable
from cutover.core.result import EXIT_NAMES, SessionResult, Status, sentence_of
from cutover.core.text import count, countdown, duration
from cutover.core.verdict import Outcome, Verdict

Tone = Literal["good", "bad", "unsure", "dim", "strong"]
CODES: Mapping[Tone, str] = {"good": "32", "bad": "31;1", "unsure": "33", "dim": "2", "strong": "1"}
TONES: Mapping[str, Tone] = {"yes": "good", "no": "bad", "unknown": "unsure", "not asked": "dim"}
RESULT_TONES: Mapping[str, Tone] = {"good": "good", "failed": "bad", "operator": "bad", "unsure": "unsure"}
MARKS: Mapping[str, str] = {"no": "✗ ", "unknown": "? ", "not asked": "· "}
MOMENT, NAME, TIME = 7, 16, 10
"""The widths of the columns."""
BAR = 12
NO_BREAKS = str.maketrans("\n\t", "  ")
ASCII = str.maketrans({"→": "->", "·": "-", "✗": "x", "█": "#", "▁": ".", "▕": "[", "▏": "]", "…": "..."})


@dataclass(frozen=True, slots=True)
class Look:
    """What a terminal can show: colors, letters beyond ASCII, how many columns."""

    color: bool = False
    unicode: bool = True
    width: int = 100

    def paint(self, text: str, tone: Tone) -> str:
        """*text* in *tone*, unchanged without colors."""
        return f"\x1b[{CODES[tone]}m{text}\x1b[0m" if self.color and text else text

    def spell(self, text: str) -> str:
        """*text* masked, on one line, without control characters, in letters that the terminal has."""
        clean = printable(text).translate(NO_BREAKS)
        return clean if self.unicode else clean.translate(ASCII).encode("ascii", "replace").decode()


PLAIN = Look()


@dataclass(frozen=True, slots=True)
class Who:
    """The contents of the first line: project, target, tags before and after, person."""

    project: str
    target: str
    before: str = ""
    after: str = ""
    by: str = ""


def terminal_look(environ: Mapping[str, str], *, tty: bool, encoding: str | None, columns: int = 0) -> Look:
    """The look of a stream; NO_COLOR and TERM=dumb turn colors off, FORCE_COLOR turns them on in a CI log."""
    wanted = tty or bool(environ.get("FORCE_COLOR"))
    color = wanted and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    letters = (encoding or "").lower().replace("-", "").startswith("utf")
    return Look(color=color, unicode=letters, width=max(60, columns) if columns else 100)


def first_line(who: Who, at: Look = PLAIN) -> str:
    """`cutover recall · green · sha-1 → sha-2 · by ana@runner-7`."""
    differ = who.before and who.after and who.before != who.after
    tags = f"{who.before} → {who.after}" if differ else who.after or who.before
    parts = [f"cutover {who.project}", who.target, tags]
    parts += [who.by and f"by {who.by}"]
    return at.paint(at.spell(" · ".join(filter(None, parts))), "strong")


def step_lines(step: Step, at: Look = PLAIN, *, moment: bool = True) -> list[str]:
    """A step on one line, wrapped if it is too long; *moment* False leaves `T-0` out."""
    text = MARKS.get(step.outcome, "") + step.text
    tone = TONES.get(step.outcome, "dim")
    return _row(step.moment if moment else "", step.name, text, step.seconds, tone, at)


def check_lines(check: Check, at: Look = PLAIN) -> list[str]:
    """A check below its step: `smoke[green]    ✗ ready: expected status 200, got 503`."""
    outcome = check.verdict.outcome
    name = f"{check.test.split('/')[0]}[{check.target}]"
    text = f"{MARKS.get(outcome, '')}{check.verdict.question}: {check.verdict.reason}"
    return _row("", name, text, check.seconds, TONES[outcome], at)


def is_notable(verdict: Verdict) -> bool:
    """Whether a verdict gets a line of its own: a no, an unknown, or a yes with a notice."""
    return verdict.outcome in {Outcome.NO, Outcome.UNKNOWN} or bool(verdict.evidence.get("notice"))


def notable_lines(checks: Iterable[Check], result: SessionResult, at: Look = PLAIN) -> list[str]:
    """The lines of the notable checks that no reason of the result stands for."""
    shown = (each for each in result.unexplained(checks) if is_notable(each.verdict))
    return [line for check in shown for line in check_lines(check, at)]


def watch_line(left_s: float, total_s: float, verdicts: Mapping[str, Verdict], at: Look = PLAIN) -> str:
    """One line of progress, cut to the width: time left, a bar, the worst verdicts first."""
    done = 1.0 if total_s <= 0 else min(1.0, max(0.0, 1 - left_s / total_s))
    full = round(BAR * done)
    bar = f"▕{'█' * full}{'▁' * (BAR - full)}▏"
    ranked = sorted(verdicts.values(), key=lambda verdict: verdict.rank)
    text = " · ".join(f"{each.question}: {each.reason}" for each in ranked)
    line = at.spell(f"{'T+15m':<{MOMENT}}{'watch':<{NAME}}{countdown(left_s)} left {bar}  {text}")
    return line if len(line) <= at.width else line[: at.width - 3].rstrip() + at.spell("…")


def not_asked_lines(checks: Iterable[tuple[str, str]], at: Look = PLAIN) -> list[str]:
    """`not asked: http://… is a plain URL, … (3 checks)` for each reason, from pairs of test and reason."""
    found = Counter(reason for _test, reason in checks)
    return [at.paint(at.spell(f"not asked: {why} ({count(n, 'check')})"), "dim") for why, n in found.items()]


def last_lines(result: SessionResult, at: Look = PLAIN) -> list[str]:
    """The end of a session: status and sentence, reasons, what was tried and differs, what to run, what is next."""
    # On one line, however long: people search for it in a log and paste it.
    status = at.paint(result.status, RESULT_TONES[result.status.kind])
    lines = [f"{status}  {at.spell(sentence_of(result))}"]
    for label, text in _details(result):
        lines += _detail(label, text, at)
    return [*lines, exit_line(result.exit_code)] if result.exit_code else lines


def exit_line(code: int) -> str:
    """`exit 11 OPERATOR_NEEDED`; without a name for a code that is not ours."""
    return f"exit {code} {EXIT_NAMES.get(code, '')}".rstrip()


def refused_lines(word: str, why: str, exit_code: int, at: Look = PLAIN) -> list[str]:
    """The end of a session that was refused: why, the one command if there is one, the exit code."""
    text, _, run = why.partition("; run: ")
    lines = ["", f"{at.paint(word, 'bad' if run else 'unsure')}  {at.spell(text)}"]
    return [*lines, *(_detail("run", run, at) if run else []), exit_line(exit_code)]


def _details(result: SessionResult) -> Iterable[tuple[str, str]]:
    yield from (("why", f"{each.test}: {each.text}" if each.test else each.text) for each in result.reasons)
    yield from (("tried", each) for each in result.tried)
    if result.differs:
        yield "now", result.differs
    if result.users:
        yield "users", result.users
    yield from (("note", each) for each in result.notes)
    if result.command:
        yield "run", f"{result.command}{f'      ({result.command_where})' if result.command_where else ''}"
    if result.report:
        yield "read" if result.status is Status.ROLLBACK_FAILED else "see", result.report
    yield from (("next", each) for each in result.next_steps)


def _wrap(text: str, width: int) -> list[str]:
    # Paths, commands and node ids stay whole.
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _detail(label: str, text: str, at: Look) -> list[str]:
    head = f"  {label:<6}"
    # A command is copied from the screen: it stays on one line, however long.
    first, *rest = [at.spell(text)] if label == "run" else _wrap(at.spell(text), at.width - len(head))
    return [at.paint(head, "dim") + first, *(" " * len(head) + part for part in rest)]


def _row(moment: str, name: str, text: str, seconds: float, tone: Tone, at: Look) -> list[str]:
    room = max(20, at.width - MOMENT - NAME - TIME)
    first, *rest = _wrap(at.spell(text), room)
    label = at.spell(name)
    gap = " " * max(1, NAME - len(label))
    shown = at.paint(first.ljust(room), tone) if tone in {"bad", "unsure", "dim"} else first.ljust(room)
    took = duration(seconds) if seconds else ""
    line = f"{at.paint(f'{moment:<{MOMENT}}', 'dim')}{label}{gap}{shown}{took:>{TIME}}".rstrip()
    return [line, *(" " * (MOMENT + NAME) + part for part in rest)]

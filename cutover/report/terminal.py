"""The lines of a session in a terminal or a CI log: pure functions from evidence to text.

Colour is added where there is a terminal; the lines are the same without it, for marks say what colour says.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cutover.core.masking import MASK
from cutover.core.verdict import Outcome, Verdict
from cutover.evidence import Check, Step
from cutover.report.ending import BAD, GOOD, Ending, Word, sentence
from cutover.report.words import clock, count, duration

Tone = Literal["good", "bad", "unsure", "dim", "strong"]
CODES: Mapping[Tone, str] = {"good": "32", "bad": "31;1", "unsure": "33", "dim": "2", "strong": "1"}
TONES: Mapping[str, Tone] = {"yes": "good", "no": "bad", "unknown": "unsure", "not asked": "dim"}
MARKS: Mapping[str, str] = {"no": "✗ ", "unknown": "? ", "not asked": "· "}
MOMENT, NAME, TIME = 7, 16, 10
PLAIN = str.maketrans({"→": "->", "·": "-", "✗": "x", "█": "#", "▁": ".", "▕": "[", "▏": "]", "…": "..."})


@dataclass(frozen=True, slots=True)
class Look:
    """What the terminal can show: colours, letters beyond ASCII, so many columns."""

    colour: bool = False
    unicode: bool = True
    width: int = 100

    def paint(self, text: str, tone: Tone) -> str:
        """*text* in *tone*, or as it is where there is no colour."""
        return f"\x1b[{CODES[tone]}m{text}\x1b[0m" if self.colour and text else text

    def spell(self, text: str) -> str:
        """*text* masked, on one line each, without control characters, in letters that the terminal has."""
        clean = "".join(letter if letter.isprintable() else " " for letter in MASK(text))
        return clean if self.unicode else clean.translate(PLAIN).encode("ascii", "replace").decode()


@dataclass(frozen=True, slots=True)
class Who:
    """What the first line says: project, target, the tags before and after, by whom, where the report is."""

    project: str
    target: str
    before: str = ""
    after: str = ""
    by: str = ""
    report: str = ""


def look(environ: Mapping[str, str], *, tty: bool, encoding: str | None, columns: int = 0) -> Look:
    """The look for a stream; NO_COLOR and TERM=dumb are respected, FORCE_COLOR colours a CI log."""
    wanted = tty or bool(environ.get("FORCE_COLOR"))
    colour = wanted and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    letters = (encoding or "").lower().replace("-", "").startswith("utf")
    return Look(colour=colour, unicode=letters, width=max(60, columns) if columns else 100)


def first_line(who: Who, at: Look | None = None) -> str:
    """`cutover recall · green · sha-1 → sha-2 · by ana@runner-7 · report reports/…/`."""
    at = at or Look()
    differ = who.before and who.after and who.before != who.after
    tags = f"{who.before} → {who.after}" if differ else who.after or who.before
    parts = [f"cutover {who.project}", who.target, tags]
    parts += [who.by and f"by {who.by}", who.report and f"report {who.report}"]
    return at.paint(at.spell(" · ".join(part for part in parts if part)), "strong")


def step_lines(step: Step, at: Look | None = None, *, moment: bool = True) -> list[str]:
    """One line of the run of show, wrapped below itself if too long; *moment* False leaves `T-0` out."""
    at = at or Look()
    text = MARKS.get(step.outcome, "") + step.text
    took = duration(step.seconds) if step.seconds else ""
    return _row(step.moment if moment else "", step.name, text, took, TONES.get(step.outcome, "dim"), at)


def check_lines(check: Check, at: Look | None = None, *, list_name: str = "") -> list[str]:
    """One check below its step: `smoke[green]    ✗ ready: expected status 200, got 503`."""
    at = at or Look()
    verdict = check.verdict
    outcome = str(verdict.outcome)
    name = list_name or f"{check.test.split('/')[0]}[{check.target}]"
    text = f"{MARKS.get(outcome, '')}{verdict.question}: {verdict.reason}"
    return _row("", name, text, duration(check.seconds) if check.seconds else "", TONES[outcome], at)


def says_more(verdict: Verdict) -> bool:
    """Whether a line of its own is due: a no, an unknown, or a yes that carries a notice."""
    return verdict.outcome in {Outcome.NO, Outcome.UNKNOWN} or bool(verdict.evidence.get("notice"))


def tally(checks: Iterable[Check]) -> str:
    """`14 yes`, `12 yes, 1 no, 1 unknown, 3 not asked`; what is zero is left out."""
    found = Counter(check.verdict.outcome for check in checks)
    return ", ".join(f"{found[word]:,} {word}" for word in Outcome if found[word]) or "no check ran"


def outcome_of(checks: Iterable[Check]) -> str:
    """The worst word among *checks*: no before unknown before yes; unknown if there is none."""
    found = {check.verdict.outcome for check in checks}
    worst = (Outcome.NO, Outcome.UNKNOWN, Outcome.YES)
    return str(next((word for word in worst if word in found), Outcome.UNKNOWN))


def watch_line(left_s: float, total_s: float, verdicts: Mapping[str, Verdict], at: Look | None = None) -> str:
    """One line of progress that fits the width: time left, a bar, what is not yes first."""
    at = at or Look()
    done = 1.0 if total_s <= 0 else min(1.0, max(0.0, 1 - left_s / total_s))
    full = round(12 * done)
    bar = f"▕{'█' * full}{'▁' * (12 - full)}▏"
    order = (Outcome.NO, Outcome.UNKNOWN, Outcome.YES, Outcome.NOT_ASKED)
    ranked = sorted(verdicts.values(), key=lambda verdict: order.index(verdict.outcome))
    said = " · ".join(f"{each.question}: {each.reason}" for each in ranked)
    line = at.spell(f"{'T+15m':<{MOMENT}}{'watch':<{NAME}}{clock(left_s)} left {bar}  {said}")
    return line if len(line) <= at.width else line[: at.width - 3].rstrip() + at.spell("…")


def not_asked_lines(checks: Iterable[tuple[str, str]], at: Look | None = None) -> list[str]:
    """`not asked: http://… is a plain URL, … (3 checks)` for each reason, from pairs of test and reason."""
    at = at or Look()
    found = Counter(reason for _test, reason in checks)
    return [at.paint(at.spell(f"not asked: {why} ({count(n, 'check')})"), "dim") for why, n in found.items()]


def tone_of(word: Word) -> Tone:
    """Green for what stays, red for what was refused or needs a person, yellow for the rest."""
    if word in GOOD:
        return "good"
    return "bad" if word in BAD or word is Word.UNDO_FAILED else "unsure"


def last_lines(ending: Ending, at: Look | None = None) -> list[str]:
    """The end: the word and its sentence, why, what was tried, what to run, where to read, what is next."""
    at = at or Look()
    # On one line, however long: it is what people search a log for, and paste.
    lines = [f"{at.paint(ending.word, tone_of(ending.word))}  {at.spell(sentence(ending))}"]
    for label, said in _details(ending):
        lines += _detail(label, said, at)
    return [*lines, f"exit {ending.exit_code}"] if ending.exit_code else lines


def refused_lines(word: str, why: str, exit_code: int, at: Look | None = None) -> list[str]:
    """The end of a session that was not begun: why, the one command if there is one, the exit code."""
    at = at or Look()
    said, _, run = why.partition("; run: ")
    lines = ["", f"{at.paint(word, 'bad' if run else 'unsure')}  {at.spell(said)}"]
    return [*lines, *(_detail("run", run, at) if run else []), f"exit {exit_code}"]


def _details(ending: Ending) -> Iterable[tuple[str, str]]:
    yield from (("why", f"{each.test}: {each.reason}" if each.test else each.reason) for each in ending.why)
    yield from (("tried", each) for each in ending.tried)
    if ending.run:
        yield "run", f"{ending.run}{f'      ({ending.run_where})' if ending.run_where else ''}"
    if ending.see or ending.saved:
        label = "read" if ending.word is Word.UNDO_FAILED else "see"
        yield label, " · ".join(filter(None, [ending.see, ending.saved]))
    yield from (("next", each) for each in ending.next)


def _wrap(text: str, width: int) -> list[str]:
    """*text* in lines of *width*; paths, commands and node ids stay whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _detail(label: str, said: str, at: Look) -> list[str]:
    head = f"  {label:<6}"
    # A command is copied from the screen: it stays on one line, however long.
    first, *rest = [at.spell(said)] if label == "run" else _wrap(at.spell(said), at.width - len(head))
    return [at.paint(head, "dim") + first, *(" " * len(head) + part for part in rest)]


def _row(moment: str, name: str, text: str, took: str, tone: Tone, at: Look) -> list[str]:
    room = max(20, at.width - MOMENT - NAME - TIME)
    first, *rest = _wrap(at.spell(text), room)
    label = at.spell(name)
    gap = " " * max(1, NAME - len(label))
    padded = first.ljust(room)
    shown = at.paint(padded, tone) if tone in {"bad", "unsure", "dim"} else padded
    line = f"{at.paint(f'{moment:<{MOMENT}}', 'dim')}{label}{gap}{shown}{took:>{TIME}}".rstrip()
    return [line, *(" " * (MOMENT + NAME) + part for part in rest)]

"""The first screen: the verdict in one sentence, from what to what, who and when, the run of show, the proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutover.evidence import Evidence, Step
from cutover.report import proof
from cutover.report.ending import BAD, GOOD, Ending, Running, Word, sentence
from cutover.report.facts import Times, mapping, number, span, text
from cutover.report.html import KINDS, MARKS, cut, esc, pairs, section
from cutover.report.words import duration

TICK = '<circle cx="16" cy="16" r="14"/><path d="M9 16.5l5 5 9-10"/>'
ARROW_BACK = (
    '<rect x="2.5" y="2.5" width="27" height="27" rx="3"/>'
    '<path d="M12 9l-5 5 5 5M7.5 14h11a5 5 0 0 1 0 10h-5"/>'
)
WARNING = '<path d="M16 2.5L30.5 29H1.5z"/><path d="M16 11.5v9M16 24.2v1.6"/>'
QUESTION = (
    '<path d="M16 1.5L30.5 16 16 30.5 1.5 16z"/>'
    '<path d="M12.5 13a3.5 3.5 0 1 1 5 3.2c-1 .6-1.5 1.3-1.5 2.6M16 22v1.5"/>'
)
SHAPES: Mapping[str, str] = {"good": TICK, "back": ARROW_BACK, "person": WARNING, "unsure": QUESTION}


def kind_of(word: Word) -> str:
    """Which shape and colour the band has."""
    if word is Word.UNDO_FAILED:
        return "person"
    return "good" if word in GOOD else "back" if word in BAD else "unsure"


def band(ending: Ending) -> str:
    """The coloured band: shape, word, one sentence, exit code."""
    kind = kind_of(ending.word)
    shape = f'<svg class="shape" viewBox="0 0 32 32" aria-hidden="true">{SHAPES[kind]}</svg>'
    code = (
        f'<p class="exit">exit {ending.exit_code}</p>'
        if ending.exit_code >= 0
        else '<p class="exit">no exit code</p>'
    )
    said = f'<p class="word">{esc(ending.word)}</p><p class="said">{esc(sentence(ending))}</p>'
    return f'<header class="band {kind}">{shape}<div>{said}</div>{code}</header>'


def todo(ending: Ending) -> str:
    """Why it ended so and what a person is to do, right below the verdict."""
    run = f'<pre class="run">{esc(ending.run)}</pre><p>{esc(ending.run_where)}</p>' if ending.run else ""
    tried = "".join(f"<li>{cut(each, 2000)}</li>" for each in ending.tried)
    later = "".join(f"<li>{cut(each, 1000)}</li>" for each in ending.next)
    why = "".join(
        f"<li><code>{esc(each.test)}</code> {cut(each.reason, 1000)}</li>" for each in ending.why[:5]
    )
    rows = [
        ("why", f"<ul>{why}</ul>" if why else ""),
        ("run this", run),
        ("tried", f"<ul>{tried}</ul>" if tried else ""),
        ("kept", esc(ending.saved)),
        ("next", f"<ul>{later}</ul>" if later else ""),
    ]
    return f'<div class="todo">{pairs(rows)}</div>' if any(said for _key, said in rows) else ""


def from_to(evidence: Evidence, ending: Ending) -> str:
    """Which release of which colour, before and after, with the digests in full."""
    shown = [_side(mapping(evidence.facts, key), key, ending) for key in ("from", "to")]
    return (
        f'<div class="fromto">{"<b class=arrow>→</b>".join(filter(None, shown))}</div>' if any(shown) else ""
    )


def _side(side: Mapping[str, Any], label: str, ending: Ending) -> str:
    if not side:
        return ""
    colour, tag = text(side, "colour"), text(side, "tag")
    named = f'<span class="chip {esc(colour)}">{esc(colour)}</span>' if colour else ""
    ran = (each.digest for each in ending.running if (each.colour, each.tag) == (colour, tag))
    digest = text(side, "digest") or text(side, "image") or next(ran, "")
    full = f"<code>{esc(digest)}</code>" if digest else ""
    return f"<div><small>{label}</small> {named} <b>{esc(tag or 'nothing')}</b>{full}</div>"


def runs_now(ending: Ending) -> str:
    """What each colour ran when everything was over, as asked from outside."""
    if not ending.running:
        return ""
    said = "".join(f"<li>{_running(each)}</li>" for each in ending.running)
    ago = (
        ""
        if ending.asked_s_ago is None
        else f" <small>asked {duration(ending.asked_s_ago)} before the end</small>"
    )
    return f"<ul>{said}</ul>{ago}"


def _running(each: Running) -> str:
    traffic = " · gets the traffic" if each.live else ""
    chip = f'<span class="chip {esc(each.colour)}">{esc(each.colour)}</span>'
    return f"{chip} {esc(each.tag)} · {esc(each.state)}{traffic}"


def who_when(evidence: Evidence, ending: Ending, times: Times) -> str:
    """Who did it, when, for how long, how it ended, and what it cost."""
    facts = evidence.facts
    lasted = span(evidence)
    rows = [
        ("who", esc(text(facts, "who"))),
        ("began", esc(times.full(lasted[0])) if lasted else ""),
        ("lasted", esc(duration(lasted[1] - lasted[0])) if lasted else ""),
        ("exit code", str(ending.exit_code) if ending.exit_code >= 0 else "none, the session died"),
        ("time to roll back", esc(duration(ending.roll_back_s)) if ending.roll_back_s is not None else ""),
        ("failed requests", _failed(ending)),
    ]
    wide = [
        ("runs now", runs_now(ending)),
        ("command", f"<code>{esc(text(facts, 'command'))}</code>" if text(facts, "command") else ""),
        ("release", f"<code>{esc(text(facts, 'release'))}</code>" if text(facts, "release") else ""),
    ]
    return f'<div class="facts"><div class="small">{pairs(rows)}</div>{pairs(wide)}</div>'


def _failed(ending: Ending) -> str:
    if ending.failed_requests is None:
        return ""
    during = (
        f" in {duration(ending.failed_s)}" if ending.failed_requests and ending.failed_s is not None else ""
    )
    return f"{ending.failed_requests:,}{esc(during)}"


def timeline(evidence: Evidence, times: Times) -> str:
    """The run of show with real times: when each step began, what came of it, how long it took."""
    if not evidence.steps:
        return ""
    begin = min(step.at - step.seconds for step in evidence.steps)
    whole = max(step.at for step in evidence.steps) - begin
    rows, moment = "", ""
    for step in evidence.steps:
        rows += _step(step, times, step.moment if step.moment != moment else "", (begin, whole))
        moment = step.moment or moment
    zones = times.name if times.pair(begin)[1] == "" else f"{times.name}, UTC"
    head = "".join(f"<th>{name}</th>" for name in ("", esc(zones), "step", "what came of it", "took"))
    table = f'<div class="wide"><table class="show"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return section("show", "Run of show", table)


def _step(step: Step, times: Times, moment: str, whole: tuple[float, float]) -> str:
    local, utc = times.pair(step.at - step.seconds)
    kind = KINDS.get(step.outcome, "unknown")
    sign = f'<b class="mark {kind}" title="{esc(step.outcome)}">{MARKS.get(step.outcome, "?")}</b>'
    clock = f"{local} <small>{utc}</small>" if utc else local
    spent = f"{_bar(step, *whole)}{esc(duration(step.seconds))}" if step.seconds else ""
    return (
        f'<tr class="{kind}"><td class="moment">{esc(moment)}</td><td class="clock">{clock}</td>'
        f'<td class="what">{sign} {esc(step.name)}</td><td>{cut(step.text, 2000)}</td>'
        f'<td class="took">{spent}</td></tr>'
    )


def _bar(step: Step, begin: float, whole: float) -> str:
    """Where in the session the step lay, as a bar of at least two points."""
    left = 100 * (step.at - step.seconds - begin) / (whole or 1)
    wide = max(2.0, 100 * step.seconds / (whole or 1))
    rect = f'<rect x="{min(left, 98):.1f}" y="0" width="{min(wide, 100 - min(left, 98)):.1f}" height="4"/>'
    return f'<svg class="span" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">{rect}</svg>'


def proof_of_switch(evidence: Evidence, times: Times) -> str:
    """The proof of the switch as one picture."""
    seen = mapping(evidence.facts, "proof")
    at = number(evidence.facts, "switched_at")
    note = f"at {esc(times.full(at))}" if at is not None else ""
    return section("proof", "Proof of the switch", proof.picture(seen), note) if seen else ""

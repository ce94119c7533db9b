"""Text into HTML, safely: everything from a service is masked, escaped and cut to a bearable length here."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cutover.core.masking import MASK, STARS

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]|\x1b\[[0-9;]*[A-Za-z]")
MARKS: Mapping[str, str] = {"yes": "✓", "no": "✗", "unknown": "?", "not asked": "·"}
KINDS: Mapping[str, str] = {"yes": "yes", "no": "no", "unknown": "unknown", "not asked": "none"}


def esc(value: object) -> str:
    """*value* as text that a page may hold anywhere: masked, without control characters, escaped."""
    return html.escape(CONTROL.sub("�", MASK(str(value))))


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each thing a page carries; what is left out is said, and is in `evidence.jsonl`."""

    value: int = 4000
    """Letters of one value of a verdict's evidence."""
    checks: int = 1500
    journal: int = 400
    script: int = 60_000
    points: int = 300
    """Points of one line of a chart."""


ROOMY = Limits()
TIGHT = (
    ROOMY,
    Limits(800, 1500, 200, 20_000, 150),
    Limits(160, 800, 80, 8000, 80),
    Limits(80, 150, 30, 3000, 60),
)


def cut(value: object, most: int) -> str:
    """*value* escaped, its middle left out where it is longer than *most* letters, and how much that is."""
    text = MASK(str(value))
    if len(text) <= most:
        return esc(text)
    head, tail = most // 3, most - most // 3
    left_out = f" … {len(text) - most:,} letters left out, all of it is in evidence.jsonl … "
    return f'{esc(text[:head])}<span class="cut">{left_out}</span>{esc(text[-tail:])}'


def mark(outcome: str) -> str:
    """An outcome as shape, colour and word."""
    kind = KINDS.get(outcome, "unknown")
    return (
        f'<span class="mark {kind}"><b aria-hidden="true">{MARKS.get(outcome, "?")}</b> {esc(outcome)}</span>'
    )


def value_of(value: Any, most: int) -> str:
    """A JSON value as people read it: lines as lines, structures indented."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)
    inner = cut(text, most)
    return f"<pre>{inner}</pre>" if "\n" in text or len(text) > 100 else f"<code>{inner}</code>"  # noqa: PLR2004 - a line


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """A list of terms and descriptions; the second of each pair is HTML already, an empty one is left out."""
    shown = "".join(f"<div><dt>{esc(key)}</dt><dd>{said}</dd></div>" for key, said in rows if said)
    return f"<dl>{shown}</dl>" if shown else ""


def section(name: str, title: str, body: str, note: str = "") -> str:
    """A part of the page under its heading; nothing where there is nothing to show."""
    if not body:
        return ""
    aside = f' <small class="note">{note}</small>' if note else ""
    return f'<section id="{name}"><h2>{esc(title)}{aside}</h2>{body}</section>'


def masked_page(page: str) -> str:
    """*page*, written by others, with each known value starred out, however it was escaped."""
    page = MASK(page)
    for value in sorted(MASK.values, key=len, reverse=True):
        for form in spellings(value):
            page = page.replace(form, STARS)
    return page


def spellings(value: str) -> set[str]:
    """What escaping for HTML, JSON and HTML again make of *value*, in any order that pytest-html uses."""
    once = {value, html.escape(value), _jinja(value)}
    coded = {json.dumps(each)[1:-1] for each in once}
    return {form for each in once | coded for form in (each, html.escape(each), _jinja(each))} - {value}


def _jinja(value: str) -> str:
    """Jinja's spelling of the quotes differs from the standard library's."""
    return html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")

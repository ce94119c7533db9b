"""Text of services and people made safe for HTML and Markdown: masked, without control characters, escaped, cut."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

from cutover.core.masking import MASK, printable

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]|\x1b\[[0-9;]*[A-Za-z]")
MARKDOWN = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{letter: f"\\{letter}" for letter in "\\`*_[]|~#"}}
)
AUTOLINK = re.compile(r"@|\bwww(?=\.)", re.IGNORECASE)
MOST_LETTERS = 600
ONE_LINE = 100


def safe_markup(text: str) -> Markup:
    """*text* marked as made of escaped parts only, so that a template does not escape it again."""
    return Markup(text)  # noqa: S704 - the callers escape every part


def clean(value: object) -> str:
    """*value* as text, masked, control characters replaced; not escaped yet."""
    return CONTROL.sub("�", MASK(str(value)))


def html_text(value: object) -> str:
    """*value* as text that an HTML page may contain anywhere, also in an attribute."""
    return html.escape(clean(value))


def html_cut(value: object, most: int) -> Markup:
    """*value* as HTML text of at most *most* letters; the note in its middle says how many are left out."""
    text = MASK(str(value))
    if len(text) <= most:
        return safe_markup(html_text(text))
    head, tail = most // 3, most - most // 3
    note = f" … {len(text) - most:,} letters left out, all of it is in evidence.jsonl … "
    return safe_markup(f'{html_text(text[:head])}<span class="cut">{note}</span>{html_text(text[-tail:])}')


def html_json(value: Any, most: int) -> Markup:
    """A JSON value as HTML, structures indented, at most *most* letters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)
    tag = "pre" if "\n" in text or len(text) > ONE_LINE else "code"
    return safe_markup(f"<{tag}>{html_cut(text, most)}</{tag}>")


def one_line(text: str) -> str:
    """*text* masked, on one line, at most 600 letters."""
    line = " ".join(printable(text).split())
    return line if len(line) <= MOST_LETTERS else f"{line[:MOST_LETTERS]}…"


def markdown_text(text: object) -> str:
    """*text* on one line of Markdown without its own markup, links or mentions."""
    plain = one_line(str(text)).translate(MARKDOWN)
    return AUTOLINK.sub("\\g<0>\u200b", plain).replace("://", ":\u200b//")


def markdown_code(text: str) -> Markup:
    """*text* as code on one line of Markdown, also inside a table; empty for an empty text."""
    line = one_line(text).replace("`", "'").replace("|", "\\|")
    return safe_markup(f"`{line}`" if line else "")


class TemplateCache(FileSystemBytecodeCache):
    """Compiled templates beside our compiled modules, if Python may write there: compiling one takes 0.1 s."""

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Write it unless Python is told to write no bytecode; a folder that cannot be written is no error."""
        if not sys.dont_write_bytecode:
            with suppress(OSError):
                super().dump_bytecode(bucket)


def template_environment(escape_value: Callable[[object], str], *, autoescape: bool) -> Environment:
    """The environment of a template in this folder; *escape_value* gets every value that is not `Markup` yet."""
    return Environment(
        loader=PackageLoader("cutover", "report"),
        bytecode_cache=TemplateCache(str(Path(__file__).with_name("__pycache__")), "%s.template"),
        extensions=["jinja2.ext.do"],
        autoescape=autoescape,  # noqa: S701 - False for Markdown only, which *escape_value* escapes
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else escape_value(value),
    )

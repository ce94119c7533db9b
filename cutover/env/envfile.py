"""Env files: read as Compose reads them, written so that Compose reads the same back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cutover.core.errors import ConfigError
from cutover.system.compose import read_text, read_variables
from cutover.system.files import write_atomically

BOM = "\ufeff"
SPACE = r"[\t\v\f\r \x85\xa0]"
STATEMENT = re.compile(
    rf"""(?:\s|\#[^\n]*+)*+(?:export\s+)?(?P<key>[^=:\s][^=:\n]*?){SPACE}*+
    (?: \n | \Z | [=:]{SPACE}*+ (?P<value>
        '(?:\\.|[^'\\])*+' | "(?:\\.|[^"\\])*+" | (?!['"])[^\n]*?(?={SPACE}*(?:[ ]\#[^\n]*)?(?:\n|\Z))
    ))""",
    re.DOTALL | re.VERBOSE,
)
"""A statement as the dotenv parser of Compose reads it; without `value` for a name that only passes a variable on."""
ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quote_value(value: str) -> str:
    """Return *value* as it is written after `ENV_KEY=`; raises ValueError for a NUL character."""
    if "\0" in value:
        raise ValueError("holds a NUL character, which no environment can carry")
    # Single quotes are literal in every Compose v2; double quotes only for what they cannot hold.
    if not {"'", "\r"} & set(value) and not value.endswith("\\"):
        return f"'{value}'"
    return '"' + "".join(ESCAPES.get(character, character) for character in value) + '"'


def format_env_file(values: Mapping[str, str], *, head: Iterable[str] = ()) -> str:
    """Return the text of an env file with *values*, below the comment lines *head*."""
    rows = [
        *(f"# {line}" for line in head),
        *(f"{key}={quote_value(value)}" for key, value in values.items()),
    ]
    return "\n".join([*rows, ""])


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of *path* in the order of the file; raises ConfigError that names file and line."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    values = read_variables(path)
    in_file = dict.fromkeys(each["key"] for each in statements(read_text(path)))  # Compose sorts by name
    return {key: values[key] for key in [*in_file, *values] if key in values}


def statements(text: str) -> Iterator[re.Match[str]]:
    """Yield each statement that Compose finds in the env file *text*, with `key` and `value`; a value may be quoted."""
    at = len(BOM) if text.startswith(BOM) else 0
    while found := STATEMENT.match(text, at):
        at = found.end()
        if found["value"] is not None:
            yield found


def set_env_value(env_file: Path, key: str, value: str) -> None:
    """Set *key* to *value* in *env_file*, in a new line if it is not there; no other byte changes.

    Comments, order, quotes, line ends, owner and mode of the file are kept.
    """
    old = env_file.read_bytes().decode(errors="surrogateescape")
    new = with_value(old, key, value)
    if new != old:
        content = new.encode(errors="surrogateescape")
        write_atomically(env_file, content, mode=env_file.stat().st_mode & 0o777)


def with_value(text: str, key: str, value: str) -> str:
    """Return the env file *text* in which each statement for *key* has *value*, in the quotes that are there."""
    parts, at = [], 0
    for each in statements(text):
        if each["key"] == key:
            quote = each["value"][:1] if each["value"][:1] in {"'", '"'} else ""
            parts += [text[at : each.start("value")], quote, value, quote]
            at = each.end("value")
    if parts:
        return "".join([*parts, text[at:]])
    end = "\r\n" if "\r\n" in text else "\n"
    before = end if text.removeprefix(BOM) and not text.endswith("\n") else ""
    return f"{text}{before}{key}={value}{end}"

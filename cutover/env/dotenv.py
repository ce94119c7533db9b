"""The env file format as Compose reads it: read by Compose itself, written so that it reads the same back."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from cutover import host
from cutover.errors import UsageProblem
from cutover.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

DEADLINE_S = 30.0
KEY = re.compile(r"^\s*(?:export\s+)?(?P<key>[A-Za-z_]\w*)\s*[=:]", re.MULTILINE)
ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(value: str) -> str:
    """*value* as it must stand after `KEY=`, so that each Compose v2 reads exactly it.

    Single quotes take everything literally; only what they cannot hold goes into double quotes with escapes.
    """
    if "\0" in value:
        raise ValueError("holds a NUL character, which no environment can carry")
    if not {"'", "\r"} & set(value) and not value.endswith("\\"):
        return f"'{value}'"
    return '"' + "".join(ESCAPES.get(character, character) for character in value) + '"'


def written(values: Mapping[str, str], *, head: Iterable[str] = ()) -> str:
    """The text of an env file that holds *values*, below comment lines."""
    comments = [f"# {line}" for line in head]
    return "\n".join([*comments, *(f"{key}={quoted(value)}" for key, value in values.items()), ""])


def read(path: Path) -> dict[str, str]:
    """The variables of *path* in their order, as Compose reads them; raises UsageProblem naming the line.

    No engine is asked, and no file of the team's is needed: a service of our own is given the env file.
    """
    if not path.is_file():
        raise UsageProblem(f"{path}: no such file")
    given = str(path.absolute()).replace("$", "$$")
    document = {"services": {"reader": {"image": "reader", "env_file": [given]}}}
    words = ("docker", "compose", "--project-name", "reader", "--file", "-", "config", "--format", "json")
    done = host.run(words, deadline_s=DEADLINE_S, stdin=json.dumps(document).encode(), mask=False)
    if not done.ok:
        raise UsageProblem(f"{path}: {MASK(done.last_line)}")
    found = json.loads(done.out)["services"]["reader"].get("environment") or {}
    values = {key: str(value).replace("$$", "$") for key, value in found.items() if value is not None}
    return in_order(values, path)


def in_order(values: Mapping[str, str], path: Path) -> dict[str, str]:
    """*values* in the order in which *path* first names them; Compose sorts them by name."""
    named = dict.fromkeys(KEY.findall(path.read_text(encoding="utf-8")))
    return {key: values[key] for key in [*named, *values] if key in values}

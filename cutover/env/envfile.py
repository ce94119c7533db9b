"""Env files: read as Compose reads them, written so that Compose reads the same back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cutover.core.errors import ConfigError
from cutover.core.masking import MASK
from cutover.system import process
from cutover.system.files import write_atomically

READ_DEADLINE_S = 30.0
ENV_KEY = re.compile(r"^\s*(?:export\s+)?(?P<key>[A-Za-z_]\w*)\s*[=:]", re.MULTILINE)
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
    """Return the variables of *path* in the order of the file; raises ConfigError that names file and line.

    `docker compose config` reads it, as `env_file` of a service of ours: python-dotenv reads the format differently.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    escaped = str(path.absolute()).replace("$", "$$")
    document = {"services": {"reader": {"image": "reader", "env_file": [escaped]}}}
    argv = ("docker", "compose", "--project-name", "reader", "--file", "-", "config", "--format", "json")
    done = process.run(argv, deadline_s=READ_DEADLINE_S, stdin=json.dumps(document).encode(), mask=False)
    if not done.ok:
        raise ConfigError(f"{path}: {MASK(done.last_line)}")
    found = json.loads(done.out)["services"]["reader"].get("environment") or {}
    values = {key: str(value).replace("$$", "$") for key, value in found.items() if value is not None}
    in_file = dict.fromkeys(ENV_KEY.findall(path.read_text(encoding="utf-8")))  # Compose sorts by name
    return {key: values[key] for key in [*in_file, *values] if key in values}


def set_env_value(env_file: Path, key: str, value: str) -> None:
    """Set *key* to *value* in *env_file*. Comments, order, owner and mode of the file are kept."""
    row = re.compile(
        rf"^([ \t]*(?:export[ \t]+)?{re.escape(key)}[ \t]*[=:])[^\n]*?([ \t]+#[^\n]*)?$", re.MULTILINE
    )
    old = env_file.read_text(encoding="utf-8")
    new = row.sub(lambda found: f"{found[1]}{value}{found[2] or ''}", old)
    if new != old:
        write_atomically(env_file, new, mode=env_file.stat().st_mode & 0o777)

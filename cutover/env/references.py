"""References to secrets that live elsewhere: found in a template's values, and fetched one by one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cutover import host
from cutover.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEADLINE_S = 30.0
SCHEMES = ("op://", "vault://", "file://", "env:")
# `file:/data/app.db` is how Prisma names an SQLite database: a file to read has two slashes.
# A reference is a whole value, or stands in double braces inside one: redis://:{{ op://… | url }}@cache/0
WHOLE = re.compile(rf"(?P<reference>(?:{'|'.join(SCHEMES)})\S.*)")
INSIDE = re.compile(r"\{\{\s*(?P<reference>[^{}|]*[^{}|\s])\s*(?P<url>\|\s*url\s*)?\}\}")


class Unresolved(Exception):
    """A reference that leads to nothing; the text is the reason, never a value."""


def references(value: str) -> list[str]:
    """The references in one value, in their order."""
    whole = WHOLE.fullmatch(value)
    return [whole["reference"]] if whole else [found["reference"] for found in INSIDE.finditer(value)]


def filled(value: str, found: Mapping[str, str]) -> str:
    """*value* with each reference replaced by what it led to, percent-encoded where it says `| url`."""
    if WHOLE.fullmatch(value):
        return found[value]

    def fill(match: re.Match[str]) -> str:
        secret = found[match["reference"]]
        return quote(secret, safe="") if match["url"] else secret

    return INSIDE.sub(fill, value)


@dataclass(slots=True)
class Sources:
    """Where references lead: 1Password's CLI, a Vault, files, the caller's environment."""

    environment: Mapping[str, str]
    _vault: Any = None
    _secrets: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def fetch(self, reference: str) -> str:
        """What *reference* leads to, masked in all that is written from here on; raises Unresolved."""
        known: dict[str, Callable[[str], str]] = {
            "op://": self._from_op, "vault://": self._from_vault,
            "file://": self._from_file, "env:": self._from_environment,
        }  # fmt: skip
        for scheme, source in known.items():
            if reference.startswith(scheme):
                value = source(reference)
                MASK.learn([value])
                return value
        raise Unresolved(f"unknown kind of reference: {', '.join(SCHEMES)} are known")

    def _from_environment(self, reference: str) -> str:
        name = reference.removeprefix("env:")
        if not self.environment.get(name):
            raise Unresolved(f"{name} is not set" if name not in self.environment else f"{name} is empty")
        return self.environment[name]

    def _from_file(self, reference: str) -> str:
        path = Path("/" + reference.removeprefix("file://").lstrip("/"))
        try:
            return path.read_text(encoding="utf-8").removesuffix("\n")
        except OSError as error:
            raise Unresolved(f"{error.strerror}".lower()) from error
        except UnicodeDecodeError as error:
            raise Unresolved("is no text in UTF-8") from error

    def _from_op(self, reference: str) -> str:
        """By `op read`; what the CLI needs to sign in (OP_*) is in the caller's environment."""
        kept = {key: value for key, value in self.environment.items() if key.startswith(("OP_", "XDG_"))}
        kept["PATH"] = self.environment.get("PATH", host.FIXED_PATH)
        words = ("op", "read", "--no-newline", reference)
        done = host.run(words, deadline_s=DEADLINE_S, environment=kept, mask=False)
        if done.code == 127:  # noqa: PLR2004 - what a shell says of a command that is not there
            raise Unresolved("the 1Password CLI `op` is not installed here")
        if not done.ok:
            raise Unresolved(f"op: {MASK(done.last_line)}")
        return done.out

    def _from_vault(self, reference: str) -> str:
        place, _, key = reference.removeprefix("vault://").partition("#")
        if not key or "/" not in place.strip("/"):
            raise Unresolved("is not vault://mount/path#key")
        if place not in self._secrets:
            from cutover.env import vault

            self._vault = self._vault or vault.client(self.environment)
            self._secrets[place] = vault.read(self._vault, *place.strip("/").split("/", 1))
        secret = self._secrets[place]
        if key not in secret:
            raise Unresolved(f"has no key {key!r}, it has {', '.join(sorted(secret)) or 'none'}")
        if not isinstance(secret[key], (str, int, float)):
            raise Unresolved(f"its key {key!r} is no text")
        return str(secret[key])

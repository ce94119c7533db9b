"""Masking: known secret values never reach a terminal, log or report."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

STARS = "***"
MIN_LENGTH = 4  # masking shorter values ("db", "1") would make reports unreadable and hide nothing
MIN_DIGITS = 6
SECRET_KEY = re.compile(
    r"(?:^|_)(?:PASS|PASSWD|PASSWORD|PASSPHRASE|PWD|SECRET|TOKEN|PIN|KEY|SALT|CODE)(?:_|$)", re.IGNORECASE
)
PLAIN_WORDS = frozenset(
    {"true", "false", "none", "null", "prod", "production", "info", "debug", "warning", "error"}
)
URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]{0,30}://[^\s:/@]*:)[^\s/@]+(?=@)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that prints as three stars; only `reveal` returns it."""

    value: str = field(repr=False)

    def __repr__(self) -> str:
        return STARS

    __str__ = __repr__

    def reveal(self) -> str:
        """Return the value, to be written to the standard input or socket of a process."""
        return self.value


def forms_of(value: str) -> set[str]:
    """Return *value* in every spelling that may be printed: plain, quoted for URL, JSON, HTML, shell and Compose."""
    return {
        value,
        quote(value, safe=""),
        quote(value),
        unquote(value),
        value.replace("$", "$$"),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        html.escape(value),
        value.replace("'", "'\"'\"'"),
    }


def passwords_in(value: str) -> set[str]:
    """Return the password of a URL as a set of one, or an empty set."""
    try:
        password = urlsplit(value).password
    except ValueError:
        return set()
    return {password} if password else set()


@dataclass(slots=True)
class Mask:
    """Replaces known values in text by stars."""

    values: set[str] = field(default_factory=set)

    def learn(self, values: Iterable[str]) -> None:
        """Mask each of *values* from now on, in every spelling; of a URL also its password alone."""
        for value in values:
            for each in {value} | passwords_in(value):
                if len(each) >= MIN_LENGTH and each.lower() not in PLAIN_WORDS:
                    self.values |= {form for form in forms_of(each) if len(form) >= MIN_LENGTH}

    def learn_environment(self, environment: Mapping[str, str], public: Iterable[str]) -> None:
        """Mask the values of an env file, except those of *public* keys.

        A number is masked only if it is long and its key names a secret: reports are full of ports and sizes.
        """
        shown = set(public)
        self.learn(
            value
            for key, value in environment.items()
            if key not in shown
            and (not value.isdigit() or (len(value) >= MIN_DIGITS and SECRET_KEY.search(key)))
        )

    def __call__(self, text: str) -> str:
        """Return *text* with every known value, and the password of any URL, replaced by stars."""
        for value in sorted(self.values, key=len, reverse=True):
            text = text.replace(value, STARS)
        return URL_PASSWORD.sub(rf"\g<head>{STARS}", text) if "://" in text else text

    def within(self, value: object) -> object:
        """Return *value* with all strings in it masked, and numbers that equal a known value.

        Must run before JSON encoding: masking encoded JSON would break numbers that contain a known value.
        """
        if isinstance(value, Mapping):
            # An identifier is one of our own keys; any other key may be text from a service.
            named = {key if str(key).isidentifier() else self(str(key)): each for key, each in value.items()}
            return {key: self.within(each) for key, each in named.items()}
        if isinstance(value, list | tuple):
            return [self.within(each) for each in value]
        if value is None or isinstance(value, bool | int | float):
            return STARS if str(value) in self.values else value
        return self(str(value))


MASK = Mask()
"""The mask of this process."""

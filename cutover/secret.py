"""Values that must never be printed, and the mask that takes them out of everything that is written."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

STARS = "***"
LEAST_LENGTH = 4  # shorter values ("db", "1") would star out half of a report and hide nothing
LEAST_DIGITS = 6
SECRET_KEY = re.compile(
    r"(?:^|_)(?:PASS|PASSWD|PASSWORD|PASSPHRASE|PWD|SECRET|TOKEN|PIN|KEY|SALT|CODE)(?:_|$)", re.IGNORECASE
)
PLAIN_WORDS = frozenset(
    {"true", "false", "none", "null", "prod", "production", "info", "debug", "warning", "error"}
)
URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]{0,30}://[^\s:/@]*:)[^\s/@]+(?=@)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Secret:
    """A value whose text form is three stars; `reveal` is the only way to read it."""

    value: str = field(repr=False)

    def __repr__(self) -> str:
        """Three stars."""
        return STARS

    __str__ = __repr__

    def reveal(self) -> str:
        """The value itself, for the one place that hands it to a process's standard input or socket."""
        return self.value


def forms_of(value: str) -> set[str]:
    """Each spelling in which *value* may turn up: itself, as URL, JSON, HTML and shells quote it, Compose's dollars."""
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
    """The password that a URL-like value carries, if any."""
    try:
        password = urlsplit(value).password
    except ValueError:
        return set()
    return {password} if password else set()


@dataclass(slots=True)
class Mask:
    """Takes known values out of text; what it has learnt once it masks everywhere."""

    values: set[str] = field(default_factory=set)

    def learn(self, values: Iterable[str]) -> None:
        """Mask each of *values* from now on, in every spelling, with the password of a URL on its own too."""
        for value in values:
            for each in {value} | passwords_in(value):
                if len(each) >= LEAST_LENGTH and each.lower() not in PLAIN_WORDS:
                    self.values |= {form for form in forms_of(each) if len(form) >= LEAST_LENGTH}

    def learn_environment(self, environment: Mapping[str, str], public: Iterable[str]) -> None:
        """Mask the values of an env file, but those of *public* keys, which reports must show.

        A number is masked only if it is long and its key speaks of a secret: ports and sizes are in every report.
        """
        shown = set(public)
        self.learn(
            value
            for key, value in environment.items()
            if key not in shown
            and (not value.isdigit() or (len(value) >= LEAST_DIGITS and SECRET_KEY.search(key)))
        )

    def __call__(self, text: str) -> str:
        """*text* with each known value, and the password of any URL, starred out."""
        for value in sorted(self.values, key=len, reverse=True):
            text = text.replace(value, STARS)
        return URL_PASSWORD.sub(rf"\g<head>{STARS}", text) if "://" in text else text

    def within(self, value: object) -> object:
        """*value* for JSON, each text in it masked before it is quoted, and a number that is itself a known value.

        Masking the JSON instead would break it where a known value is a run of digits, as of a time.
        """
        if isinstance(value, Mapping):
            # A key that is a name is ours; anything else may be text of a service.
            named = {key if str(key).isidentifier() else self(str(key)): each for key, each in value.items()}
            return {key: self.within(each) for key, each in named.items()}
        if isinstance(value, list | tuple):
            return [self.within(each) for each in value]
        if value is None or isinstance(value, bool | int | float):
            return STARS if str(value) in self.values else value
        return self(str(value))


MASK = Mask()
"""The one mask of this process: settings teach it, everything that writes asks it."""

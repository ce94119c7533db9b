"""Masking: known secret values never reach a terminal, log or report. docs/masking.md has the rules."""

from __future__ import annotations

import base64
import bisect
import html
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from cutover.core.text import parse_json, without_codes, without_commands

STARS = "***"
MIN_LENGTH = 4  # masking shorter values ("db", "1") would make reports unreadable and hide nothing
MIN_DIGITS = 6
CERTAIN_KEY = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN(?!IZER)|CREDENTIAL|API_?KEY|PRIVATE_?KEY|PGPASS|WEBHOOK|REQUIREPASS",
    re.IGNORECASE,
)
SECRET_KEY = re.compile(
    rf"{CERTAIN_KEY.pattern}|(?:^|_)(?:\w*PWD|DBPASS|PASS|KEY|PIN|SALT|PEPPER|DSN|AUTH|COOKIE|SIGNATURE|JWT"
    r"|MASTERAUTH|(?:ACCESS|AUTH|PIN|RECOVERY|INVITE)_CODE)(?:_|$)|(?:^|_)PW$",
    re.IGNORECASE,
)
"""Names of keys whose values are secret."""
DESCRIBES = re.compile(
    r"PUBLIC_?KEY|PUBLISHABLE|TOKENS_PER|(?:^|_)(?:FILE|PATH|DIR|NAME|TTL|LENGTH|LEN|MIN|MAX|PREFIX|SUFFIX|HEADER|TYPE"
    r"|MODE|METHOD|ENABLED?|REQUIRED|ISSUER|AUDIENCE|ALG|ALGORITHMS?|EXPIR(?:Y|ES?|ATION)(?:_IN)?|TIMEOUT|LIFETIME|AGE"
    r"|ROUNDS|COUNT|SIZE|LIMIT|HOST|PORT|USER|USERNAME|DOMAIN|SCOPES?|PROVIDER|BACKEND|SAMESITE|SECURE|REGION"
    r"|(?:MAX|MIN)(?:_\w+)?_TOKENS)(?:_(?:S|MS|SECONDS|MINUTES|HOURS|DAYS))?$",
    re.IGNORECASE,
)
"""Ends of names that only say something about a secret: `PASSWORD_FILE`, `TOKEN_TTL`."""
WORKING_FOLDERS = frozenset({"PWD", "OLDPWD"})
"""Keys that a shell sets to a path; elsewhere `Pwd` is a password."""
IDENTIFIES = re.compile(
    r"(?:^|_)(?:COMMIT|SHA\d*|REVISION|REV|VERSION|DIGEST|TAG|BUILD|IMAGE|CHECKSUM|ETAG)(?:_|$)",
    re.IGNORECASE,
)
"""Names of keys whose values look random and are not secret."""
PLAIN_WORDS = frozenset({
    "true", "false", "none", "null", "prod", "production", "info", "debug", "warning", "error", "basic", "bearer",
})  # fmt: skip
SCHEME = r"[a-z][a-z0-9+.-]{0,30}://"
URL_PASSWORD = re.compile(rf"(?P<head>{SCHEME}[^\s:/@]*:)(?P<password>[^\s/@]+)(?=@)", re.IGNORECASE)
URL = re.compile(rf"{SCHEME}[^\s\"'<>]+", re.IGNORECASE)
# A password that nobody encoded may have any letter. A number before the path is a port.
VALUE_PASSWORD = re.compile(
    rf"(?:jdbc:)?{SCHEME}[^\s:/@]*:(?!\d{{1,5}}(?:[/?#,;\s]|$))(?P<password>[^/?#]+|.+)@", re.IGNORECASE
)
"""The password in a value that is one URL."""
WORD_OR_QUOTED = r"(?:\"(?P<double>[^\"\n]+)\"|'(?P<single>[^'\n]+)'|(?P<bare>[^\s\"',;&]+))"
PAIRS = tuple(
    re.compile(head + WORD_OR_QUOTED, re.MULTILINE)
    for head in (
        r"(?P<key>[A-Za-z][\w.-]{0,60})[\"']?[ \t]*[=:][ \t]*",  # key=value, "key": "value"
        r"(?<![\w-])--?(?P<key>[A-Za-z][\w.-]{0,60})\s+(?!-)",  # --key value
        r"^[ \t]*(?P<key>[A-Za-z][\w.-]{0,60})[ \t]+(?=\S+[ \t]*$)",  # a line of redis.conf
    )
)
RANDOM = re.compile(r"[\w+-]{20,}={0,2}")
RUN = re.compile(r"[A-Za-z0-9]{20,}")
RANDOM_BITS = 3.0  # bits for each letter: words and numbers stay below it, 20 random hex digits are above
MIN_DIGIT_SHARE = 0.1
LONG_LINE, LONG_WORD = 16, 12
DIGEST = re.compile(r"\bsha\d+:[0-9a-f]+")
ANCHOR = 8  # letters by which a value is found; the rest is compared
WORD = 8  # values of fewer letters are masked as whole words only: "test" in "latest" stays
MIN_BASE64 = 8
CUT_FROM, CUT_LEAST, CUT_ENOUGH = 16, 12, 32  # a value of 16 letters or more is masked where it was cut


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


# --- what is secret --------------------------------------------------------------------------------------------------
def names_secret(key: str) -> bool:
    """Whether the value of *key* is secret by its name: `DB_PASSWORD` and `apiKey`, not `PASSWORD_FILE`."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", key).strip("_")
    return bool(SECRET_KEY.search(name)) and not DESCRIBES.search(name)


def looks_random(word: str) -> bool:
    """Whether *word* has a run of 20 letters and digits without the pattern of words and numbers."""
    return any(
        sum(map(str.isdigit, run)) >= MIN_DIGIT_SHARE * len(run)
        and any(map(str.isalpha, run))
        and _bits(run) >= RANDOM_BITS
        for run in RUN.findall(word)
    )


def _bits(text: str) -> float:
    """Shannon entropy of the letters of *text*, in bits for each letter."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def secrets_of(key: str, value: str) -> set[str]:
    """Return the secrets in the *value* of *key*: all of it by its name, else passwords, pairs and random words."""
    passwords = _passwords(VALUE_PASSWORD.match(value.strip()))
    if not names_secret(key) or (key in WORKING_FOLDERS and value.startswith("/")):
        return passwords | secrets_in(value, random=not IDENTIFIES.search(key))
    if value.isdigit():
        return {value} if len(value) >= MIN_DIGITS else set()
    if "://" in value and URL.fullmatch(value.strip()):
        # The host of a URL is no secret: what is secret is in one of its parts.
        return passwords | _of_url(value.strip(), named=True, key=key)
    lines = {line.strip() for line in value.splitlines()} if "\n" in value else set()
    long = {line for line in lines if len(line) >= LONG_LINE and not line.startswith("-----")}
    return {value, value.strip()} | passwords | long | set(_leaves(value))


def secrets_in(text: str, *, random: bool = True) -> set[str]:
    """Return what is secret in *text* whose key says nothing: a command, a label, a file, an ordinary variable."""
    found = _passwords(*URL_PASSWORD.finditer(text))
    for url in URL.findall(text):
        found |= _of_url(url, named=False)
    for pair in (pair for pattern in PAIRS for pair in pattern.finditer(text)):
        value = pair["double"] or pair["single"] or pair["bare"]
        # `${NAME}` stands for a value. A short word beside `key` or `auth` says which kind.
        kind = value.isalpha() and len(value) < LONG_WORD and not CERTAIN_KEY.search(pair["key"])
        if "$" not in value and "://" not in value and not kind and names_secret(pair["key"]):
            found |= {value} if not value.isdigit() or len(value) >= MIN_DIGITS else set()
    return found | set(_private_keys(text)) | (random_words(URL.sub("", text)) if random else set())


def random_words(text: str) -> set[str]:
    """Return the words of *text* that look like keys; digests of images do not count."""
    return {word for word in RANDOM.findall(DIGEST.sub("", text)) if looks_random(word)}


def _passwords(*found: re.Match[str] | None) -> set[str]:
    """What *found* has as password, as it is spelled and decoded."""
    spelled = {each["password"] for each in found if each}
    return spelled | set(map(unquote, spelled))


def _of_url(url: str, *, named: bool, key: str = "") -> set[str]:
    """The secrets in *url*; under a secret *key* also each long word, because a token need not have a digit."""
    found = _passwords(*URL_PASSWORD.finditer(url))
    try:
        parts = urlsplit(url)
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return found
    found |= {password, unquote(password)} if password else set()
    if user and not password and (named or looks_random(user)):
        found.add(user)
    path, query = [word for word in parts.path.split("/") if word], parse_qsl(parts.query)
    found |= {value for name, value in query if names_secret(name) or looks_random(value)}
    found |= {word for word in path if looks_random(word)}
    if key:
        found |= {word for word in (*path, *(value for _, value in query)) if len(word) >= LONG_LINE}
    if "webhook" in key.lower():  # whoever knows the path may call it
        found |= {*path[-1:]}
    return found


def _private_keys(text: str) -> Iterator[str]:
    for block in re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.*?)-----END", text, re.DOTALL):
        lines = block.replace("\\n", "\n").splitlines()
        yield from (line.strip() for line in lines if len(line) >= LONG_LINE)


def _leaves(value: str) -> Iterator[str]:
    """The texts in a JSON value under a secret name, except those whose own key names no secret."""
    if not value.lstrip().startswith(("{", "[")):
        return
    try:
        waiting: list[Any] = [parse_json(value)]
    except ValueError:
        return
    while waiting:
        match waiting.pop():
            case dict() as rows:
                waiting += [each for each in rows.values() if not isinstance(each, str)]
                for key, each in rows.items():
                    yield from secrets_of(key, each) if isinstance(each, str) else ()
            case list() as rows:
                waiting += rows
            case str() as text:
                yield text


# --- how it is spelled -----------------------------------------------------------------------------------------------
def forms_of(value: str) -> set[str]:
    """Return *value* in every spelling that may be printed: see docs/masking.md."""
    data = value.encode(errors="surrogateescape")
    shell = value.replace("'", "'\"'\"'")
    plain = {value, unquote(value), value.replace("$", "$$"), shell, repr(value)[1:-1]}
    for each in (quote(value, safe="", errors="replace"), quote(value, errors="replace"),
                 quote(value, safe="!'()*", errors="replace"), quote_plus(value, errors="replace")):  # fmt: skip
        plain |= {each, re.sub("%..", lambda found: found[0].lower(), each)}
    # Services and pytest-html escape for HTML and JSON, one after the other, in any order.
    once = plain | _escaped(value)
    twice = {form for each in _escaped(value) for form in _escaped(each)}
    return once | twice | {data.hex(), data.hex().upper()} | set(_base64(data))


def _escaped(value: str) -> set[str]:
    coded, spelled = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    of_go = spelled.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    of_html = html.escape(value)
    # Jinja spells quotes in another way than the standard library.
    of_jinja = of_html.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    plain_html = html.escape(value, quote=False)
    return {coded, spelled, spelled.replace("/", "\\/"), of_go, of_html, of_jinja, plain_html}


def _base64(data: bytes) -> Iterator[str]:
    """*data* in base64: alone, and what is the same of it wherever it begins in longer data."""
    for begin in range(3):
        padded = base64.b64encode(b"\0" * begin + data).decode().rstrip("=")
        # The letters at both ends hold bits of the neighbors too.
        whole = (begin + len(data)) * 8 // 6
        core = padded[begin + (begin > 0) : whole]
        if len(core) >= MIN_BASE64:
            yield from {core, core.translate(URL_SAFE)}
    alone = base64.b64encode(data).decode()
    if len(alone.rstrip("=")) >= MIN_LENGTH + 2:
        yield from {alone, alone.translate(URL_SAFE)}


URL_SAFE = str.maketrans("+/", "-_")


# --- the mask --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Forms:
    """All spellings of the known values, found by one regular expression of their first letters."""

    values: frozenset[str]

    @cached_property
    def by_anchor(self) -> dict[str, list[str]]:
        found: dict[str, set[str]] = {}
        for form in {form for value in self.values for form in forms_of(value)}:
            if len(form) >= MIN_LENGTH:
                found.setdefault(form[:ANCHOR], set()).add(form)
        return {anchor: sorted(forms, key=len, reverse=True) for anchor, forms in found.items()}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(_any_of(sorted(self.by_anchor)))

    def masked(self, text: str) -> str:
        parts, done, at = [], 0, self.pattern.search(text)
        while at is not None:
            end = self._end(text, at.start())
            if end > at.start():
                parts += [text[done : at.start()], STARS]
                done = end
            at = self.pattern.search(text, max(end, at.start() + 1))
        return "".join([*parts, text[done:]]) if parts else text

    def _end(self, text: str, at: int) -> int:
        """Where the value that begins at *at* ends; *at* if none does."""
        best = at
        for size in range(MIN_LENGTH, ANCHOR + 1):
            for form in self.by_anchor.get(text[at : at + size], ()):
                if text.startswith(form, at):
                    if _stands_alone(form, text, at):
                        best = max(best, at + len(form))
                elif len(form) >= CUT_FROM:
                    best = max(best, _cut_end(form, text, at))
        return best


def _stands_alone(form: str, text: str, at: int) -> bool:
    """Whether *form* at *at* is not a part of another word or number; longer values are masked anywhere."""
    before, after = text[at - 1 : at], text[at + len(form) : at + len(form) + 1]
    if form.isdigit():
        return not before.isdigit() and not after.isdigit()
    if len(form) >= WORD or not form.isalpha():
        return True
    escaped = re.search(r"%[0-9A-Fa-f]{2}$|\\[nrt]$", text[max(0, at - 3) : at])
    return bool(escaped or not before.isalnum()) and not after.isalnum()


def _cut_end(form: str, text: str, at: int) -> int:
    """Where a long *form* that begins at *at* was cut; *at* if the text goes on as another word."""
    room = text[at : at + len(form)]
    same = next((n for n, (one, two) in enumerate(zip(form, room, strict=False)) if one != two), len(room))
    after = text[at + same : at + same + 1]
    enough = same >= min(max(CUT_LEAST, len(form) // 2), CUT_ENOUGH)
    return at + same if enough and not (after.isalnum() or after in {"_", "-"}) else at


def _any_of(words: list[str]) -> str:
    """A regular expression of *words* (sorted) as a tree: it looks at each letter of a text once."""
    if not words:
        return "(?!)"
    found: list[str] = []
    at = 0
    while at < len(words):
        first = words[at][:1]
        if not first:  # a word that ends here: whatever follows, it matches
            return "(?:" + "|".join([*found, ""]) + ")"
        end = bisect.bisect_left(words, chr(ord(first) + 1), at)
        found.append(re.escape(first) + _any_of([word[1:] for word in words[at:end]]))
        at = end
    return found[0] if len(found) == 1 else f"(?:{'|'.join(found)})"


@dataclass(slots=True)
class Mask:
    """Replaces known values in text by stars."""

    values: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset()
    """Tags, names and folders: never masked, even if a secret has the same value."""
    _forms: tuple[object, object, _Forms] = (None, None, _Forms(frozenset()))

    def learn(self, values: Iterable[str]) -> None:
        """Mask each of *values* from now on, in every spelling; of a URL the password alone."""
        found: set[str] = set()
        for value in values:
            passwords = _passwords(VALUE_PASSWORD.match(value))
            of_url = passwords | _of_url(value, named=True) if URL.fullmatch(value) else set()
            found |= passwords | (of_url or {value})
        # Replaced, not changed: another thread may be masking.
        long = {each for each in found if len(each) >= MIN_LENGTH}
        self.values = self.values | {each for each in long if each.lower() not in PLAIN_WORDS}

    def show(self, words: Iterable[str]) -> None:
        """Never mask *words*, whatever has the same value."""
        self.shown = self.shown | {word for word in words if word}

    def learn_environment(
        self, environment: Mapping[str, str], public: Iterable[str] = (), masked: Iterable[str] = ()
    ) -> None:
        """Mask the secrets of an environment: values of *masked* keys, none of *public* ones, else by `secrets_of`."""
        always, never = set(masked), set(public)
        self.show(value for key, value in environment.items() if key in never - always)
        for key, value in environment.items():
            if key in always:
                self.learn([value])
            elif key not in never:
                self.learn(secrets_of(key, value))

    def __call__(self, text: str) -> str:
        """Return *text* with every known value, and the password of any URL, replaced by stars."""
        values, shown, forms = self._forms
        if values is not self.values or shown is not self.shown:
            forms = _Forms(frozenset(self.values) - self.shown)
            self._forms = self.values, self.shown, forms
        text = forms.masked(text)
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


def printable(text: str) -> str:
    """*text*, as a service or person wrote it, so that a terminal and a CI log may show it: masked, without codes."""
    return without_commands(MASK(without_codes(text)))

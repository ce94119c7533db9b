"""What must hold for env files; pure, one finding for each thing that does not."""

from __future__ import annotations

import difflib
import re
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Values = Mapping[str, Mapping[str, str]]
    """Colour → its variables."""

FLOATING = re.compile(
    r"|alpha|beta|canary|current|dev|devel|develop|development|edge|head|latest|lts|main|master|mainline|next|nightly"
    r"|preview|prod|production|qa|rc|release|snapshot|stable|stage|staging|test|testing|trunk|uat|unstable"
    r"|v\d{1,3}|latest[._-].*|.*[._-]latest",
    re.IGNORECASE,
)
"""Tags that mean another image tomorrow. `v1.2.3`, `1234` and `main-4f1c2aa` are names of one build."""
PLACEHOLDER = re.compile(
    r"\.{3}|to-?do|fixme|placeholder|x{3,}"
    r"|(?:\S*[-_.])?(?:change|replace)[-_ ]?(?:me|this|it)(?:[-_.]\S*|!)?",
    re.IGNORECASE,
)
"""What stands for a whole value, user, password or host; a generated password may hold such letters by chance."""
BRACKETS = re.compile(
    r"(?:^|(?<=[/:@=._-]))(?:<[a-z][a-z0-9 ._/-]*>|\.{3}(?=$))(?=$|[/:@?._-])", re.IGNORECASE
)
"""`<owner>` or a last `...` as one part of a name: what a template leaves open."""
REFERENCE = re.compile(r"^(?:op|vault|file)://|\{\{\s*(?:op://|vault://|file://|env:)")
URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s,]*", re.IGNORECASE)
NEED_A_HOST = frozenset({"http", "https", "ws", "wss"})
"""Others know a default host (`postgresql:///db`, `redis:///0`), or none at all (`sqlite:///x`, `PLAINTEXT://:9092`)."""
ENCODE = "percent-encode what the password holds (@ : / ? # % and spaces)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: what, where, and what to do about it."""

    where: str
    what: str
    todo: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.where}: {self.what}: {self.todo}"

    def as_json(self) -> dict[str, str]:
        """The three words as a dictionary."""
        return asdict(self)


def is_placeholder(value: str) -> bool:
    """Whether *value* is what a template says, not what a service could use."""
    if any(PLACEHOLDER.fullmatch(part) for part in (value, *_credentials(value))):
        return True
    rest, found = BRACKETS.subn("", value)
    return bool(found) and not re.search(r"\s", rest)  # `Shop <shop>` is a name, not a gap


def _credentials(value: str) -> list[str]:
    """User, password and host of a URL-like value."""
    _, separator, rest = value.partition("://")
    if not separator:
        return []
    who, _, place = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    return [*who.split(":", 1), place.rsplit(":", 1)[0]]


def incomplete(values: Mapping[str, str], template: Mapping[str, str], where: str) -> list[Finding]:
    """A finding for each key of the template that the file lacks; an empty value is a decision, and allowed.

    What must not be empty is said where it is used: `${DATABASE_URL:?}` in the Compose file.
    """
    found = []
    for key in template:
        if key not in values:
            close = difflib.get_close_matches(key, values.keys() - template.keys(), n=1)
            todo = f"is {close[0]} meant?" if close else "add it"
            found.append(Finding(where, f"{key} is missing, the template has it", todo))
    return found


def placeholders(values: Mapping[str, str], where: str) -> list[Finding]:
    """A finding for each value that nobody has filled in."""
    found = []
    for key, value in values.items():
        if REFERENCE.search(value):
            found.append(Finding(where, f"{key} still holds a reference", "write it by `cutover env render`"))
        elif is_placeholder(value):
            found.append(Finding(where, f"{key} still holds its placeholder", "give it its value"))
    return found


def unpinned(image: str, tag: str, where: str, tag_key: str) -> list[Finding]:
    """A finding for a tag that may mean another image tomorrow."""
    if "@sha256:" in image or not FLOATING.fullmatch(tag):
        return []
    what = f"{tag_key}={tag or '(empty)'} is not pinned"
    return [Finding(where, what, "use a tag that never moves, like sha-<commit>")]


def broken_urls(values: Mapping[str, str], where: str) -> list[Finding]:
    """A finding for each URL that a client would read differently from what was meant; no value is shown."""
    found = []
    for key, value in values.items():
        wrong = url_fault(value)
        if wrong:
            found.append(Finding(where, f"{key} is no URL that can be read: {wrong[0]}", wrong[1]))
    return found


def url_fault(value: str) -> tuple[str, str] | None:
    """What is wrong with a URL and what to do, without any part of it that could be a password.

    Only what is one URL by its looks is judged: lists, policies, `jdbc:` names and paths are somebody else's.
    """
    if not URL.fullmatch(value):
        return None
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return "its port is no number up to 65535", f"correct the port; if it has none, {ENCODE}"
    if parts.netloc.count("@") > 1:
        return "there is more than one @ before its path", ENCODE
    if not parts.netloc and parts.scheme in NEED_A_HOST:
        return "it names no host", "write scheme://host"
    return ("its port is 0", "name the port") if port == 0 else None


def exported(values: Mapping[str, str], environment: Mapping[str, str], where: str) -> list[Finding]:
    """A finding for each variable of the caller's shell that beats the file when Compose is run by hand."""
    return [
        Finding(where, f"{key} is exported in this shell with another value, which would win", f"unset {key}")
        for key, value in values.items()
        if key in environment and environment[key] != value
    ]


def own_data(values: Mapping[str, str], profiles: Iterable[str], where: str, colour: str) -> list[Finding]:
    """A finding when a colour would start its own empty database."""
    wanted = sorted(set(values.get("COMPOSE_PROFILES", "").split(",")) & set(profiles))
    if not wanted:
        return []
    what = f"COMPOSE_PROFILES={','.join(wanted)}: {colour} would start its own empty {wanted[0]}"
    return [Finding(where, what, "move it to .env.deploy, both colours share the data")]


def no_port(where: str, service: str) -> Finding:
    """The finding for a service that nobody outside of its network could ask."""
    return Finding(where, f"service {service!r} publishes no port", "publish one on 127.0.0.1")


def lacking(colours: Values, where: Callable[[str], str]) -> list[Finding]:
    """A finding for each key that one colour has and another lacks."""
    keys = dict.fromkeys(key for values in colours.values() for key in values)
    return [
        Finding(where(name), f"{key} is missing, another colour has it", "add it, or take it from both")
        for name, values in colours.items()
        for key in keys
        if key not in values
    ]


def not_apart(colours: Values, where: Callable[[str], str], keys: Iterable[str]) -> list[Finding]:
    """A finding for each of *keys* that is the same on two colours."""
    return [
        Finding(where(two), f"{key} is the same as {one}'s", "give each colour its own")
        for one, two in combinations(colours, 2)
        for key in keys
        if colours[one].get(key) and colours[one][key] == colours[two].get(key)
    ]


def not_shared(colours: Values, where: Callable[[str], str], keys: Iterable[str]) -> list[Finding]:
    """A finding for each of *keys*, which name the data, that is not the same on two colours."""
    return [
        Finding(where(two), f"{key} is another than {one}'s", "both colours must use the same data")
        for one, two in combinations(colours, 2)
        for key in keys
        if key in colours[one] and key in colours[two] and colours[one][key] != colours[two][key]
    ]

"""What the new release answers differently: three answers to each request, two of the old release and one of the new.

What differs between the two old answers is noise of its route; what differs between both of them and the new one is
a difference. Everything here is pure: answers in, groups of differences out.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import islice
from typing import Any, get_args

from cutover.core.config_schema import DifferenceKind
from cutover.core.stats import binomial_tail, more_often
from cutover.core.text import ROUTE_ID, count, duration, seconds_of, shown_query
from cutover.system.http import HttpResponse, NoResponse

KINDS: tuple[DifferenceKind, ...] = get_args(DifferenceKind)
SERVER_ERROR, LIMITED, REFUSED = 500, frozenset({429}), frozenset({401, 403})
NO_JSON = object()
JSON_NAMES = {
    type(None): "null", bool: "boolean", str: "text", int: "number", float: "number", list: "list", dict: "object",
}  # fmt: skip
MOST_EPOCH = 1e14
RECENT_S = 3600.0
"""A time stamp that is newer than this tells when something was made, not what."""
MOST_ELEMENTS = 2000
MOST_SHOWN = 200
MOST_LETTERS = 1_000_000
"""A longer body is compared by its hash."""
MOST_DIFFERENCES = 300
"""Two bodies with more of them differ as a whole."""
IDENTITIES = ("id", "uuid", "key", "slug", "name", "path")
"""Fields that tell which element of a list is which."""
ERRORS_ALPHA = 0.001
SLOWER_FACTOR, SLOWER_S, SLOWER_PAIRS, SLOWER_ALPHA = 1.5, 0.02, 8, 0.001
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
HEX = re.compile(r"[0-9a-fA-F]{12,}")
TOKEN = re.compile(rf"{HEX.pattern}|(?<![\w-])ey[\w-]+(?:\.[\w-]+)+|[\w~+-]{{20,}}")
"""What may be a token: a part of a path or a query, so that two paths are compared part by part; or a JWT."""
RANDOM = re.compile(r"(?<![A-Za-z\d])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z\d]{10,}")
"""Letters and digits without a separator, which the words of a title have."""
BASE64 = re.compile(
    r"(?=.*\d)(?=.*[a-z])(?=.*[A-Z])(?!/)(?=.{20})(?:[A-Za-z\d+/]{4})+(?:[A-Za-z\d+/]{2,3}={1,2})?"
)
"""A whole value: a part of a text may as well be a path."""
NUMBERED = re.compile(r"\d+")
ATTRIBUTES = ("id", "name", "type", "href", "src", "action", "role", "rel")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it is compared."""

    status: int
    headers: Mapping[str, str]
    """Those of the allow list, names in lower case."""
    body: str
    seconds: float = 0.0
    content_type: str = ""
    """Tells how *body* is compared, also if the allow list lacks that header."""
    by_hash: bool = False
    """Whether *body* stands for a body that is too long to compare: its length and hash."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The three answers to one request; None where none came."""

    route: str
    """`GET /memories/*`"""
    request: str
    """`GET /memories/7?q=…`, as the report may show it."""
    old: tuple[Answer | None, Answer | None]
    new: Answer | None
    again: Answer | None = None
    """The new answer when it was asked again after an error; None if it was not, or if none came."""

    @property
    def recovered(self) -> bool:
        """Whether the new release answered with an error, and without one when it was asked again."""
        return is_error(self.new) and not is_error(self.again)


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the new answer differs from both old ones."""

    kind: DifferenceKind
    where: str
    """The field, header or element, like `items[].tags`; empty for the whole answer."""
    old: str = ""
    new: str = ""


@dataclass(frozen=True, slots=True)
class DifferenceGroup:
    """The same difference in several answers of one route."""

    route: str
    kind: DifferenceKind
    where: str
    times: int
    of: int
    """How many requests of the route were compared."""
    request: str
    """One of them."""
    old: str
    new: str

    @property
    def text(self) -> str:
        """`GET /memories/*: field "items[].tags" is gone, 41 of 41`."""
        said = SAID[self.kind].format(where=self.where, old=self.old or "absent", new=self.new or "gone")
        return f"{self.route}: {said}, {self.times:,} of {self.of:,}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of all requests."""

    groups: tuple[DifferenceGroup, ...] = ()
    noise: tuple[str, ...] = ()
    """`GET /memories/*: items[].score` for what differs between two answers of the old release."""
    compared: int = 0
    routes: int = 0
    not_compared: Mapping[str, int] = field(default_factory=dict)
    """Why -> how many requests could not be compared."""
    recovered: int = 0
    """How many of the compared ones the new release has first answered with an error, not surely more than the old."""
    refused: int = 0
    """How many of the compared ones the old release refuses without a login: 401 or 403."""

    @property
    def asked(self) -> int:
        """How many requests were sent."""
        return self.compared + sum(self.not_compared.values())


def answer_of(got: HttpResponse | NoResponse, headers: Iterable[str]) -> Answer | None:
    """The answer as it is compared, with the *headers* of the allow list; None for none."""
    if isinstance(got, NoResponse):
        return None
    kept = {name: got.headers[name] for name in map(str.lower, headers) if name in got.headers}
    if "location" in kept:
        kept["location"] = _local(kept["location"], got.url)
    by_hash = len(got.body) > MOST_LETTERS
    body = _digest(got.body) if by_hash else got.body
    return Answer(got.status, kept, body, got.seconds, got.headers.get("content-type", ""), by_hash)


def is_error(answer: Answer | None) -> bool:
    """Whether *answer* is a 5xx, or none came."""
    return answer is None or answer.status >= SERVER_ERROR


# --- all requests ------------------------------------------------------------------------------------------------
def compare_all(
    rows: Iterable[Compared], *, names: Sequence[str] = (), ignore: Sequence[str] = (), now: float = 0.0
) -> Comparison:
    """Compare *rows* one by one; bodies are dropped after each, so that few are in memory.

    *names* are those of both releases, their tags and colors, *now* is in seconds since 1970.

    *ignore* has fields, `items[].score`, or fields of one route, `GET /memories/*: items[].score`; `*` is any name.
    """
    noise: dict[str, set[tuple[DifferenceKind, str]]] = defaultdict(set)
    found: list[tuple[_Request, list[Difference]]] = []
    timed: dict[str, list[_Timed]] = defaultdict(list)
    refused = asked = old_errors = 0
    once: list[tuple[_Request, list[Difference]]] = []
    skipped: dict[str, int] = defaultdict(int)
    routes: dict[str, int] = defaultdict(int)
    values = _Values(_words(names), now)
    for row in rows:
        first, second = row.old
        one = _Request(row.route, row.request)
        asked, old_errors = asked + 1, old_errors + sum(map(is_error, row.old))
        error = row.new
        if row.recovered:
            row = replace(row, new=row.again)  # noqa: PLW2901  # what it answers but for the error
        if first and second and row.new and row.new.status == first.status == second.status:
            timed[row.route].append(_Timed(row.request, max(first.seconds, second.seconds), row.new.seconds))
        if why := _why_not(row):
            skipped[why] += 1
            continue
        assert first is not None  # noqa: S101  # `_why_not`
        assert second is not None  # noqa: S101
        routes[row.route] += 1
        refused += first.status in REFUSED
        if row.new is not error:
            once.append((one, [Difference("5xx", "", str(first.status), _said(error))]))
        noise[row.route] |= {(each.kind, each.where) for each in values.differences(first, second)}
        if row.new is None:
            found.append((one, [Difference("5xx", "", str(first.status), _said(None))]))
            continue
        # A difference counts only if the new answer differs from both.
        both = {(each.kind, each.where) for each in values.differences(second, row.new)}
        mine = [each for each in values.differences(first, row.new) if (each.kind, each.where) in both]
        found.append((one, mine))
    # A service that fails now and then does so here too: the old release gets twice as many requests.
    if more_often(len(once), asked, old_errors, 2 * asked) <= ERRORS_ALPHA:
        found, once = [*found, *once], []
    kept = [
        (one, each)
        for one, differences in found
        for each in differences
        if each.kind in STATUS_KINDS
        or not (_is_noise(each, noise[one.route]) or _is_ignored(one.route, each.where, ignore))
    ]
    groups = [*_grouped(kept, routes), *_slower(timed)]
    groups.sort(key=lambda each: (KINDS.index(each.kind), -each.times, each.route, each.where))
    noisy = tuple(
        f"{route}: {shown(where) or 'the body'}"
        for route in sorted(noise)
        for where in sorted({at for _, at in noise[route]})
    )
    compared = sum(routes.values())
    return Comparison(tuple(groups), noisy, compared, len(routes), dict(skipped), len(once), refused)


def _said(error: Answer | None) -> str:
    return str(error.status) if error else "no answer"


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    route: str
    label: str


@dataclass(frozen=True, slots=True)
class _Timed:
    label: str
    old: float
    new: float


def _why_not(row: Compared) -> str:
    first, second = row.old
    if first is None or second is None:
        return "the old release gave no answer"
    answers = (first, second, row.new)
    if any(each is not None and each.status in LIMITED for each in answers):
        return "a rate limit (429)"
    if first.status >= SERVER_ERROR or second.status >= SERVER_ERROR:
        return "the old release answers 5xx"
    if first.status != second.status:
        return "the old release answers with two statuses"
    return ""


FIELD_KINDS: frozenset[DifferenceKind] = frozenset({"removed_field", "added_field"})
STATUS_KINDS: frozenset[DifferenceKind] = frozenset({"5xx", "status"})
"""Never noise, as a request is not compared where two old answers differ in it; and no field, so never ignored."""


def _is_noise(difference: Difference, noise: set[tuple[DifferenceKind, str]]) -> bool:
    """Whether two old answers differ in the same way there, or one of them lacks what it lies in.

    A value that changes from answer to answer says nothing of a field that is gone, or has another type.
    """
    kind, where = difference.kind, difference.where
    for other, at in noise:
        if other in FIELD_KINDS:
            if where == at or where.startswith((f"{at}.", f"{at}[")):
                return True
        elif where == at and (other == kind or kind not in FIELD_KINDS | {"type"}):
            return True
    return False


def _is_ignored(route: str, where: str, ignore: Sequence[str]) -> bool:
    for each in ignore:
        of, _, path = each.rpartition(": ")
        pattern = re.escape(path).replace(r"\*", r"[^.\[\]]*")
        if (not of or of == route) and re.fullmatch(rf"{pattern}([.\[].*)?", where):
            return True
    return False


def _grouped(
    kept: Sequence[tuple[_Request, Difference]], routes: Mapping[str, int]
) -> Iterator[DifferenceGroup]:
    alike: dict[tuple[str, DifferenceKind, str], list[tuple[_Request, Difference]]] = defaultdict(list)
    for one, each in kept:
        alike[one.route, each.kind, each.where].append((one, each))
    for (route, kind, where), rows in alike.items():
        one, first = rows[0]
        times = len({each for each, _ in rows})
        yield DifferenceGroup(
            route, kind, shown(where), times, routes[route], one.label, first.old, first.new
        )


def _slower(timed: Mapping[str, Sequence[_Timed]]) -> Iterator[DifferenceGroup]:
    """Routes whose new answers take clearly longer than both old answers to the same requests.

    Sure by a sign test at 0.001, and by the medians: half as long again, and 20 ms more.
    """
    for route, pairs in timed.items():
        if len(pairs) < SLOWER_PAIRS:
            continue
        old = statistics.median(each.old for each in pairs)
        new = statistics.median(each.new for each in pairs)
        longer = sum(each.new > each.old for each in pairs)
        # Of three answers of one release the last is the slowest in a third of all cases.
        sure = binomial_tail(longer, len(pairs), 1 / 3) < SLOWER_ALPHA
        if sure and new > SLOWER_FACTOR * old and new > old + SLOWER_S:
            took = duration(old), duration(new)
            yield DifferenceGroup(route, "slower", "", longer, len(pairs), pairs[0].label, *took)


SAID: Mapping[DifferenceKind, str] = {
    "5xx": "{new} instead of {old}",
    "status": "status {new} instead of {old}",
    "removed_field": 'field "{where}" is gone',
    "type": '"{where}" is {new} instead of {old}',
    "redirect": "redirects to {new} instead of {old}",
    "header": "header {where} is {new} instead of {old}",
    "added_field": 'field "{where}" is new',
    "order": '"{where}" has another order',
    "value": 'field "{where}" is {new} instead of {old}',
    "structure": 'element "{where}" appears {new} instead of {old}',
    "text": 'text of "{where}" differs',
    "body": "the body differs",
    "slower": "takes {new} instead of {old}",
}


# --- two answers -------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Values:
    """Compares two answers; it knows what values of two processes may differ in."""

    names: re.Pattern[str]
    now: float

    def differences(self, old: Answer, new: Answer) -> list[Difference]:
        if old.status != new.status:
            kind: DifferenceKind = "5xx" if new.status >= SERVER_ERROR else "status"
            return [Difference(kind, "", str(old.status), str(new.status))]
        return [*self._headers(old, new), *self._bodies(old, new)]

    def _headers(self, old: Answer, new: Answer) -> Iterator[Difference]:
        for name in dict.fromkeys((*old.headers, *new.headers)):
            was, is_now = old.headers.get(name, ""), new.headers.get(name, "")
            if name == "set-cookie":  # its value is a secret of the user
                was, is_now = (each.partition("=")[0] for each in (was, is_now))
            elif name == "etag":
                was, is_now = ("present" if each else "" for each in (was, is_now))
            if name == "location":
                if not self._same(was, is_now):
                    yield Difference("redirect", name, shown_location(was), shown_location(is_now))
            elif name == "content-type":
                if _media(was) != _media(is_now):
                    yield Difference("type", name, shown(was) or "absent", shown(is_now) or "absent")
            elif not self._same(was, is_now):
                yield Difference("header", name, shown(was), shown(is_now))

    def _bodies(self, old: Answer, new: Answer) -> Iterator[Difference]:
        if old.body == new.body:
            return
        media = _media(old.content_type)[0]
        other = media != _media(new.content_type)[0]
        if other and "content-type" in {*old.headers, *new.headers}:
            return  # said by the header
        parts: Iterator[Difference] | None = None
        in_parts = not (other or old.by_hash or new.by_hash)
        if in_parts and (media == "application/json" or media.endswith("+json")):
            parts = self._documents(old.body, new.body)
        elif in_parts and media in {"text/html", "application/xhtml+xml"}:
            parts = self._html(old.body, new.body)
        try:
            found = None if parts is None else [*islice(parts, MOST_DIFFERENCES + 1)]
        except (ValueError, RecursionError):
            found = None  # no JSON, or nested too deeply
        if found is not None and len(found) <= MOST_DIFFERENCES:
            yield from found
        elif not self._same(old.body, new.body):
            bodies = (each.body if each.by_hash else _digest(each.body) for each in (old, new))
            yield Difference("body", "", *bodies)

    # --- JSON ---
    def _documents(self, old: str, new: str) -> Iterator[Difference]:
        before, after = _document(old), _document(new)
        if (before is NO_JSON) is not (after is NO_JSON):
            kinds = ("no JSON" if each is NO_JSON else "JSON" for each in (before, after))
            yield Difference("type", "body", *kinds)
        elif before is NO_JSON:
            raise ValueError("neither is JSON")
        else:
            yield from self._json("", before, after)

    def _json(self, path: str, old: Any, new: Any) -> Iterator[Difference]:
        if isinstance(old, dict) and isinstance(new, dict):
            for key in dict.fromkeys((*old, *new)):
                where = f"{path}.{key}" if path else str(key)
                if key not in new:
                    yield Difference("removed_field", where, shown(old[key]), "")
                elif key not in old:
                    yield Difference("added_field", where, "", shown(new[key]))
                else:
                    yield from self._json(where, old[key], new[key])
        elif isinstance(old, list) and isinstance(new, list):
            yield from self._list(path, old, new)
        elif (was := JSON_NAMES[type(old)]) != (is_now := JSON_NAMES[type(new)]):
            yield Difference("type", path, was, is_now)
        elif old != new and not self._same(old, new):
            yield Difference("value", path, shown(old), shown(new))

    def _list(self, path: str, old: list[Any], new: list[Any]) -> Iterator[Difference]:
        if old == new:
            return
        if len(old) != len(new):
            yield Difference("value", f"{path}.length", str(len(old)), str(len(new)))
        before, after = _by_identity(old), _by_identity(new)
        common = [each for each in before if each in after]
        if 2 * len(common) > max(len(before), len(after), 1):
            if common != [each for each in after if each in before]:
                yield Difference("order", path, shown(common), shown([*after]))
            pairs = [(before[each], after[each]) for each in common]
        elif len(old) == len(new) and sorted(map(_key, old)) == sorted(map(_key, new)):
            yield Difference("order", path, shown(old), shown(new))
            return
        else:
            pairs = [*zip(old, new, strict=False)]
        seen = set[tuple[str, str]]()
        for was, is_now in pairs[:MOST_ELEMENTS]:
            for each in self._json(f"{path}[]", was, is_now):
                if (each.kind, each.where) not in seen:  # once for all elements
                    seen.add((each.kind, each.where))
                    yield each

    def _same(self, old: Any, new: Any) -> bool:
        """Whether two values differ in no more than an ID, a token, the time of the answer, or the release's name."""
        if old == new or (old != old and new != new):  # noqa: PLR0124  # NaN
            return True
        if not isinstance(old, str) or not isinstance(new, str):
            return self._both_recent(old, new)
        if self._both_recent(old, new):
            return True
        return self._plain(old) == self._plain(new)

    def _plain(self, text: str) -> str:
        if BASE64.fullmatch(text) and RANDOM.search(text):
            return "{token}"
        text = self.names.sub("{name}", text)
        return TOKEN.sub(_token, UUID.sub("{id}", text))

    def _both_recent(self, old: Any, new: Any) -> bool:
        """Whether both are times of the same form within the last hour: of the answer, or of the start of a process."""
        return _form(old) == _form(new) and all(
            0 <= self.now - _epoch(each) < RECENT_S for each in (old, new)
        )

    # --- HTML ---
    def _html(self, old: str, new: str) -> Iterator[Difference]:
        before, after = elements_of(old), elements_of(new)
        for path in dict.fromkeys((*before, *after)):
            was, is_now = before.get(path, []), after.get(path, [])
            if len(was) != len(is_now):
                yield Difference("structure", path, f"{len(was)} ×", f"{len(is_now)} ×")
            elif not all(self._same(one, two) for one, two in zip(was, is_now, strict=True)):
                one, two = next(pair for pair in zip(was, is_now, strict=True) if not self._same(*pair))
                yield Difference("text", path, shown(one), shown(two))


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, list[str]] = defaultdict(list)
        self.open: list[str] = []
        self.times: Counter[str] = Counter()
        """How often each element is open."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        named = "".join(f"#{values['id']}" if key == "id" else "" for key in values)
        path = "/".join([*self.open[-3:], f"{tag}{NUMBERED.sub('*', named)}"])
        shown_values = " ".join(f"{name}={values[name]}" for name in ATTRIBUTES if name in values)
        self.found[path].append(shown_values)
        if tag not in VOID:
            self.open.append(tag)
            self.times[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        while self.times[tag]:
            closed = self.open.pop()
            self.times[closed] -= 1
            if closed == tag:
                return

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if text:
            self.found["/".join([*self.open[-3:], "text"])].append(text)


VOID = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr",
})  # fmt: skip


UNSEEN = re.compile(
    r"(<(script|style)\b[^>]*(?:>|\Z)).*?(?=</\2|\Z)|<!--.*?(?:-->|\Z)|<[!?][^>]*(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
"""What a page does not show: scripts, comments and declarations; `HTMLParser` fails on some of the last."""


def elements_of(page: str) -> dict[str, list[str]]:
    """Path of an element or a text -> what its occurrences say, in their order."""
    plain = UNSEEN.sub(r"\1", page)
    end = plain.rfind(">") + 1
    parser = _Elements()
    parser.feed(plain[:end])
    parser.close()
    parser.handle_data(plain[end:])  # for a tag that has no end the parser would look again and again
    return dict(parser.found)


# --- values --------------------------------------------------------------------------------------------------------
def shown(value: object) -> str:
    """A value as the report shows it, shortened."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… ({count(len(text), 'letter')})"


def shown_location(target: str) -> str:
    """Where a redirect leads, as reports show it: `*` for a token in its path, no value of its query or fragment."""
    rest, _, fragment = target.partition("#")
    path, _, query = rest.partition("?")
    parts, first = path.split("/"), 3 if "://" in path else 0
    masked = ["*" if ROUTE_ID.fullmatch(each) and not each.isdecimal() else each for each in parts[first:]]
    return shown("/".join([*parts[:first], *masked]) + shown_query(query) + ("#…" if fragment else ""))


def _by_identity(rows: Sequence[Any]) -> dict[str, Any]:
    """What identifies each element of a list of objects -> the element; empty if nothing does."""
    for name in IDENTITIES:
        if rows and all(isinstance(each, dict) and isinstance(each.get(name), str | int) for each in rows):
            found = {str(each[name]): each for each in rows}
            if len(found) == len(rows):
                return found
    return {}


def _key(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _document(body: str) -> Any:
    """The JSON value, or NO_JSON; raises ValueError for a number that is too long."""
    try:
        return json.loads(body)
    except json.JSONDecodeError:
        return NO_JSON


def _media(content_type: str) -> tuple[str, str]:
    kind, _, rest = content_type.lower().partition(";")
    return kind.strip(), rest.partition("charset=")[2].strip(' "')


def _local(target: str, asked: str) -> str:
    """*target* of a redirect without the address that was *asked*: each color has another one."""
    own = "/".join(asked.split("/", 3)[:3])  # http://127.0.0.1:8001
    rest = target.removeprefix(own)
    return rest if rest[:1] in {"", "/", "?", "#"} else target


def _words(names: Iterable[str]) -> re.Pattern[str]:
    """Finds *names* as whole words, also after a `v`; one that is a number only as the whole text."""
    longest_first = [*map(re.escape, sorted(filter(None, names), key=len, reverse=True))]
    within = "|".join(each for each in longest_first if not each.isdecimal())
    whole = "|".join(each for each in longest_first if each.isdecimal())
    return re.compile(rf"(?<![^\W_])v?(?:{within or '(?!)'})(?![^\W_])|\A(?:{whole or '(?!)'})\Z")


def _token(found: re.Match[str]) -> str:
    """A token is hexadecimal, a JWT, or has letters and digits in a row; what has not may contain one."""
    text = found[0]
    if HEX.fullmatch(text) or "." in text or RANDOM.search(text):
        return "{token}"
    return HEX.sub("{token}", text)


def _digest(body: str) -> str:
    digest = hashlib.sha256(body.encode(errors="replace")).hexdigest()[:12]
    return f"{count(len(body), 'letter')}, sha256 {digest}"


def _form(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return ""
    return "number" if not isinstance(value, str) else NUMBERED.sub("0", value)


def _epoch(value: object) -> float:
    """Seconds since 1970 that *value* means, as a stamp, seconds or milliseconds; 0.0 for anything else."""
    if isinstance(value, str):
        return seconds_of(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    if not 0 <= value < MOST_EPOCH:  # also NaN, and what no float can hold
        return 0.0
    return float(value) / 1000 if value > 1e11 else float(value)  # noqa: PLR2004  # of milliseconds

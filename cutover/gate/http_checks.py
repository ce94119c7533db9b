"""Checks of a target over HTTP: readiness, version, the endpoints of `cutover.toml`, and how long responses take."""

from __future__ import annotations

import json
import math
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import quote

from cutover.core.config_schema import Endpoint, Ready, Version
from cutover.core.target import ControlProbe
from cutover.core.text import spelled
from cutover.core.verdict import Outcome, Verdict, no, shortened, yes
from cutover.system.http import (
    MAX_TRIES,
    HttpClient,
    HttpResponse,
    NoResponse,
    RequestOptions,
    connect,
    judge_no_response,
    send_request,
)

TAG = "{tag}"
ANY_TAG = "<any version>"
DEFAULT_VERSION = {"version": TAG}  # an empty `json` would check nothing and still say yes
PLACEHOLDER = re.compile(r"\{([\w.]+)\}")
GONE = frozenset({404, 410})  # the status of an undo that has already happened
SUCCESS = range(200, 300)
ANY_SUCCESS = "2xx"
REDIRECTS = range(300, 400)
SERVER_ERROR = 500
LATENCY_ROUNDS = 3
LATENCY_BUDGET_S = 10.0
ONE_TRY = RequestOptions(tries=1)  # a request without a response is a sample: a retry would hide it
COMPARED = ControlProbe(lambda: True, "only compared with")
JSON_TYPES = {type(None): "null", bool: "a boolean", str: "a string", dict: "an object", list: "a list"}


# --- readiness and version ---
def ready(client: HttpClient, control: ControlProbe, wanted: Ready) -> Verdict:
    """Ask whether the service is ready and judge the answer; without one, *control* decides between no and unknown."""
    got = ask_ready(client, wanted)
    if isinstance(got, NoResponse):
        return with_cause(judge_no_response("ready", got, control), control)
    return with_cause(judge_ready(got, wanted), control)


def with_cause(verdict: Verdict, control: ControlProbe) -> Verdict:
    """*verdict*; a no with what the engine knows of the container: a 502 or a closed connection is its consequence."""
    if verdict.outcome is not Outcome.NO or not (cause := control.cause()):
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; {cause}")


def ask_ready(
    client: HttpClient, wanted: Ready, *, tries: int = MAX_TRIES, deadline_s: float | None = None
) -> HttpResponse | NoResponse:
    """The response to the readiness request; with `[ready] tcp` an empty one for a port that is open."""
    deadline_s = wanted.timeout if deadline_s is None else deadline_s
    if wanted.tcp:
        return connect(client, deadline_s)
    return send_request(client, "GET", wanted.path, RequestOptions(deadline_s=deadline_s, tries=tries))


def judge_ready(response: HttpResponse, wanted: Ready) -> Verdict:
    """Yes if status, header, JSON (type by type) and text are as *wanted* says."""
    problem = ready_problem(response, wanted)
    parts = (str(wanted.status or ANY_SUCCESS), *filter(None, (wanted.text, compact_json(wanted.json_))))
    expected = wanted.asked if wanted.tcp else " ".join(part for part in parts if part != "{}")
    if problem:
        return no("ready", problem, expected=expected, seen=str(response.status), **response.evidence)
    took = f"{'accepts one' if wanted.tcp else 'says so'} in {response.seconds * 1000:.0f} ms"
    return yes("ready", took, expected=expected, **response.evidence)


def ready_problem(response: HttpResponse, wanted: Ready) -> str:
    """What in *response* is not as `[ready]` says; empty if the service is ready."""
    problem = status_problem(response, wanted.status) or header_problem(response.headers, wanted.header)
    if not problem and wanted.json_:
        problem = json_problem(response, partial(differences, wanted.json_))
    if not problem and wanted.text not in response.body:
        problem = f"expected the text {wanted.text!r}, got {shortened(response.body, 80) or '(empty)'}"
    return problem


def version(client: HttpClient, control: ControlProbe, wanted: Version, tag: str | None) -> Verdict:
    """Send the version request and judge its response; *tag* is the expected release, None if it is not known."""
    got = send_request(client, "GET", wanted.path)
    if isinstance(got, NoResponse):
        return with_cause(judge_no_response("version", got, control), control)
    return with_cause(judge_version(got, wanted.json_ or DEFAULT_VERSION, tag), control)


def judge_version(response: HttpResponse, wanted: dict[str, Any], tag: str | None) -> Verdict:
    """Yes if the body contains *wanted* with `{tag}` replaced by *tag*; without a tag any version will do."""

    def compare(body: Any) -> list[str]:
        return differences(with_tag(wanted, tag) if tag else with_tag_of(wanted, body), body)

    problem = status_problem(response, 200) or json_problem(response, compare)
    expected = compact_json(with_tag(wanted, tag or ANY_TAG))
    if problem:
        return no("version", problem, expected=expected, **response.evidence)
    body = response.json()
    named = ", ".join(f"{key} {body[key]}" for key in wanted if isinstance(body[key], str))
    return yes("version", named or "as expected", expected=expected, **response.evidence)


def with_tag(wanted: Any, tag: str) -> Any:
    """*wanted* with `{tag}` replaced in each string."""
    if isinstance(wanted, str):
        return wanted.replace(TAG, tag)
    if isinstance(wanted, dict):
        return {key: with_tag(value, tag) for key, value in wanted.items()}
    return [with_tag(value, tag) for value in wanted] if isinstance(wanted, list) else wanted


def with_tag_of(wanted: Any, seen: Any) -> Any:
    """*wanted* with `{tag}` replaced by what *seen* has there, if that can be a tag."""
    if isinstance(wanted, str) and TAG in wanted:
        before, _, after = wanted.partition(TAG)
        fits = isinstance(seen, str) and re.fullmatch(f"{re.escape(before)}\\S+{re.escape(after)}", seen)
        return seen if fits else wanted.replace(TAG, ANY_TAG)
    if isinstance(wanted, dict) and isinstance(seen, dict):
        return {key: with_tag_of(value, seen.get(key)) for key, value in wanted.items()}
    return with_tag(wanted, ANY_TAG)


# --- [[endpoints]] ---
def endpoint(client: HttpClient, control: ControlProbe, wanted: Endpoint) -> Verdict:
    """Send the request of *wanted*, judge its response and undo what it wrote; one that was only slow is repeated."""
    verdict = _attempt(client, control, wanted)
    if verdict.outcome is Outcome.NO and verdict.evidence.get("only_slow"):  # it may have been cold
        verdict = _attempt(client, control, wanted)
    return with_cause(verdict, control)


def _attempt(client: HttpClient, control: ControlProbe, wanted: Endpoint) -> Verdict:
    got = send_request(client, wanted.method, wanted.path, RequestOptions(send=wanted.send))
    if isinstance(got, NoResponse):
        verdict = judge_no_response(wanted.label, got, control)
        return _with_problem(verdict, "whether it wrote something is not known") if wanted.writes else verdict
    verdict = judge_endpoint(got, wanted)
    problem = _undo(client, wanted, got) if wanted.writes and got.status in SUCCESS else ""
    return _with_problem(replace(verdict, outcome=Outcome.NO), problem) if problem else verdict


def judge_endpoint(response: HttpResponse, wanted: Endpoint) -> Verdict:
    """Yes if status, JSON, headers and duration are as *wanted* says."""
    body = wanted.json_
    problem = (
        status_problem(response, wanted.status)
        or (json_problem(response, partial(differences, body)) if body is not None else "")
        or header_problem(response.headers, wanted.headers)
    )
    expected = f"{wanted.status}{f' {compact_json(body)}' if body is not None else ''}"
    if problem:
        return no(wanted.label, problem, expected=expected, **response.evidence)
    took = f"{spelled(response.seconds * 1000, most=wanted.max_latency * 1000)} ms"
    if response.seconds > wanted.max_latency:
        reason = f"expected an answer within {wanted.max_latency * 1000:.0f} ms, it took {took}"
        return no(wanted.label, reason, expected=expected, only_slow=True, **response.evidence)
    return yes(wanted.label, f"{response.status} in {took}", expected=expected, **response.evidence)


def _undo(client: HttpClient, wanted: Endpoint, response: HttpResponse) -> str:
    """Send the undo request; why what was written is still there, empty if it is gone."""
    method, _, path = wanted.undo.partition(" ")
    try:
        filled = fill_path(path.strip(), response)
    except LookupError as error:
        return f"what it wrote is still there: its undo needs {error.args[0]}, which the answer does not hold"
    got = send_request(client, method.upper(), filled)
    if isinstance(got, NoResponse):
        return f"its undo {method} {filled}: {got}"
    if got.status in SUCCESS or got.status in GONE:
        return ""
    return f"what it wrote is still there: its undo {method} {filled} was answered with {got.status}"


def fill_path(path: str, response: HttpResponse) -> str:
    """*path* with each `{key}` or `{key.of.key}` replaced from the response's JSON; raises LookupError."""

    def value(found: re.Match[str]) -> str:
        try:
            here = response.json()
            for key in found[1].split("."):
                here = here[int(key) if isinstance(here, list) else key]
        except (ValueError, TypeError, LookupError):
            here = None
        if here is None:
            raise LookupError(found[0])
        return quote(str(here), safe="")

    return PLACEHOLDER.sub(value, path)


def _with_problem(verdict: Verdict, problem: str) -> Verdict:
    return replace(verdict, reason=f"{verdict.reason}; {problem}")


# --- latency ---
@dataclass(frozen=True, slots=True)
class Sampled:
    """What the latency check times: its name in reasons, and one sample of it."""

    name: str
    once: Callable[[HttpClient], HttpResponse | NoResponse]


def sampled_path(path: str) -> Sampled:
    """A GET request for *path*."""
    return Sampled(path, lambda client: send_request(client, "GET", path, ONE_TRY))


def sampled_ready(wanted: Ready) -> Sampled:
    """The question for readiness: a request, or with `[ready] tcp` a new connection."""
    if wanted.tcp:
        return Sampled(wanted.asked, lambda client: connect(client, wanted.timeout))
    return sampled_path(wanted.path)


def latency(
    client: HttpClient,
    control: ControlProbe,
    sampled: Sampled,
    limit_s: float,
    samples: int,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Time *sampled* until the last *samples* are good, at most three times as often, in about ten seconds.

    The first request is not counted, and a service that is slow at first is sampled until it has warmed up.
    """
    begun = clock()
    sampled.once(client)
    seen: list[HttpResponse | NoResponse] = []
    while True:
        seen.append(sampled.once(client))
        verdict = judge_latency(sampled.name, seen[-samples:], limit_s, control)
        over = clock() - begun > LATENCY_BUDGET_S and len(seen) > 1
        if (verdict.ok and len(seen) >= samples) or len(seen) >= LATENCY_ROUNDS * samples or over:
            return with_cause(verdict, control)


def judge_latency(
    name: str, seen: Sequence[HttpResponse | NoResponse], limit_s: float, control: ControlProbe
) -> Verdict:
    """No if more than one sample is slow, has no response or a server error; of a single sample, if that one is."""
    question, excused = "latency", 1 if len(seen) > 1 else 0
    silent = [each for each in seen if isinstance(each, NoResponse)]
    if len(silent) > excused:
        return judge_no_response(question, silent[-1], control).of(name)
    failed = [each for each in seen if isinstance(each, HttpResponse) and each.status >= SERVER_ERROR]
    if len(failed) > excused:
        reason = f"{name}: {len(failed)} of {len(seen)} requests were answered with {failed[-1].status}"
        return no(question, reason, **failed[-1].evidence)
    times = sorted(each.seconds for each in seen)
    counts, middle = times[-1 - excused], statistics.median(times)
    what = "worst but one" if excused else "the only one"
    worst = _spell(counts, limit_s)
    reason = f"{name}: median {_spell(middle)}, {what} {worst} of {len(times)} (limit {_spell(limit_s)})"
    judge, expected = yes if counts <= limit_s else no, f"at most {_spell(limit_s)}"
    samples = [_spell(each) for each in times]
    return judge(question, reason, expected=expected, seen=worst, milliseconds=samples)


def slower_than_other(
    verdict: Verdict, other: HttpClient | None, sampled: Sampled, limit_s: float, samples: int
) -> Verdict:
    """*verdict* of `latency`; a no for slow answers is only reported if the *other* color is too slow as well now."""
    if other is None or not _is_slow(verdict):
        return verdict
    beside = latency(other, COMPARED, sampled, limit_s, samples)
    if not _is_slow(beside):
        return verdict
    return verdict.reported(f"the other color is too slow as well: {beside.reason}")


def _is_slow(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.NO and "milliseconds" in verdict.evidence


def _spell(seconds: float, most_s: float = math.inf) -> str:
    if seconds < 1:
        return f"{spelled(seconds * 1000, most=most_s * 1000)} ms"
    return f"{spelled(seconds, most=most_s, places=2)} s"


# --- comparing a response with what is wanted ---
def status_problem(response: HttpResponse, wanted: int) -> str:
    """Why the status is not *wanted*, or none of 200 to 299 for 0; empty if it is."""
    if response.status in ((wanted,) if wanted else SUCCESS):
        return ""
    more = f": {shortened(response.body, 80)}" if response.body.strip() else ""
    if response.status in REDIRECTS:
        more = f", a redirect to {response.headers.get('location', 'nowhere')}"
    return f"expected status {wanted or ANY_SUCCESS}, got {response.status}{more}"


def header_problem(seen: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Which header is missing or differs, compared as text and as a regular expression; empty if none."""
    for name, value in wanted.items():
        got = seen.get(name.lower())
        if got is None:
            return f"expected header {name}: {value}, there is none"
        if got != value and not _matches(value, got):
            return f"expected header {name}: {value}, got {got[:80]}"
    return ""


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return False  # the value is meant as text


def json_problem(response: HttpResponse, compare: Callable[[Any], list[str]]) -> str:
    """Why the body is not JSON, or the first difference that *compare* finds; empty if there is none."""
    try:
        found = compare(response.json())
    except ValueError as error:
        return f"expected JSON, got {error}: {shortened(response.body, 80) or '(empty)'}"
    return found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "") if found else ""


def differences(wanted: Any, seen: Any, at: str = "") -> list[str]:
    """Where *seen* differs from *wanted*, one line each; types are compared: true is neither "true" nor 1.

    An object may have more keys than are wanted; an empty list stands for any list, an empty object for any object.
    """
    here = f"{at} " if at else ""
    if json_type(wanted) != json_type(seen):
        what = "" if seen is None else f" ({json_type(seen)})"
        return [f"expected {here}{compact_json(wanted)}, got {compact_json(seen)}{what}"]
    if isinstance(wanted, dict):
        return [line for key in wanted for line in _key_differences(wanted, seen, str(key), at)]
    if isinstance(wanted, list):
        if wanted and len(wanted) != len(seen):
            return [f"expected {here}with {len(wanted)} elements, got {len(seen)}"]
        pairs = enumerate(zip(wanted, seen, strict=False))
        return [line for i, (one, other) in pairs for line in differences(one, other, f"{at}[{i}]")]
    return [] if wanted == seen else [f"expected {here}{compact_json(wanted)}, got {compact_json(seen)}"]


def _key_differences(wanted: dict[str, Any], seen: dict[str, Any], key: str, at: str) -> list[str]:
    path = f"{at}.{key}" if at else key
    if key not in seen:
        return [f"expected {path} {compact_json(wanted[key])}, there is no such key"]
    return differences(wanted[key], seen[key], path)


def json_type(value: Any) -> str:
    """The JSON type of *value*, with its article."""
    return JSON_TYPES.get(type(value), "a number")


def compact_json(value: Any) -> str:
    """*value* as JSON, cut to 80 characters."""
    return shortened(json.dumps(value, ensure_ascii=False), 80)

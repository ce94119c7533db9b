"""Whether the requests of `[[endpoints]]` are answered as `cutover.toml` says; what they write is undone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from cutover.core.config_schema import Endpoint
from cutover.core.verdict import Verdict, no, yes
from cutover.http import Answer, Asking, Silence, ask, judge_silence
from cutover.probes.matching import differences, json_problem, spelt, status_problem
from cutover.target import Control

PLACE = re.compile(r"\{([\w.]+)\}")
GONE = frozenset({404, 410})  # what an undo finds that has already happened
SUCCESS = range(200, 300)


def endpoint(http: httpx.Client, control: Control, wanted: Endpoint) -> Verdict:
    """Send the request and judge its answer; one that is only slow is asked again, it may have been cold."""
    verdict = _attempt(http, control, wanted)
    if verdict.outcome.value == "no" and verdict.evidence.get("only_slow"):
        return _attempt(http, control, wanted)
    return verdict


def _attempt(http: httpx.Client, control: Control, wanted: Endpoint) -> Verdict:
    said = ask(http, wanted.method, wanted.path, Asking(send=wanted.send))
    if isinstance(said, Silence):
        verdict = judge_silence(wanted.label, said, control)
        return _told(verdict, "whether it wrote something is not known") if wanted.writes else verdict
    verdict = judge_endpoint(said, wanted)
    problem = _undo(http, wanted, said) if wanted.writes and said.status in SUCCESS else ""
    return _told(no(wanted.label, verdict.reason, **verdict.evidence), problem) if problem else verdict


def judge_endpoint(answer: Answer, wanted: Endpoint) -> Verdict:
    """Yes when status, JSON, headers and time are all as wanted."""
    problems = [
        status_problem(answer, wanted.status),
        json_problem(answer, lambda body: differences(wanted.json_, body))
        if wanted.json_ is not None
        else "",
        header_problem(answer.headers, wanted.headers),
    ]
    expected = f"{wanted.status}{f' {spelt(wanted.json_)}' if wanted.json_ is not None else ''}"
    wrong = next((problem for problem in problems if problem), "")
    if wrong:
        return no(wanted.label, wrong, expected=expected, **answer.evidence)
    took = f"{answer.seconds * 1000:.0f} ms"
    if answer.seconds > wanted.max_latency:
        reason = f"expected an answer within {wanted.max_latency * 1000:.0f} ms, it took {took}"
        return no(wanted.label, reason, expected=expected, only_slow=True, **answer.evidence)
    return yes(wanted.label, f"{answer.status} in {took}", expected=expected, **answer.evidence)


def header_problem(seen: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Which header is missing or wrong, compared word for word or as a regular expression; empty if none."""
    for name, value in wanted.items():
        said = seen.get(name.lower())
        if said is None:
            return f"expected header {name}: {value}, there is none"
        if said != value and not _fits(value, said):
            return f"expected header {name}: {value}, got {said[:80]}"
    return ""


def _fits(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return False  # it was meant word for word


def _undo(http: httpx.Client, wanted: Endpoint, answer: Answer) -> str:
    """Take back what was written; why that failed in words, empty when it is gone."""
    method, _, path = wanted.undo.partition(" ")
    try:
        filled = filled_in(path.strip(), answer)
    except LookupError as error:
        return f"what it wrote is still there: its undo needs {error.args[0]}, which the answer does not hold"
    said = ask(http, method.upper(), filled)
    if isinstance(said, Silence):
        return f"its undo {method} {filled}: {said}"
    if said.status in SUCCESS or said.status in GONE:
        return ""
    return f"what it wrote is still there: its undo {method} {filled} was answered with {said.status}"


def filled_in(path: str, answer: Answer) -> str:
    """*path* with each `{key}` or `{key.of.key}` taken from the answer's JSON; raises LookupError."""

    def value(found: re.Match[str]) -> str:
        here: Any = _body(answer)
        for key in found[1].split("."):
            here = here[int(key)] if isinstance(here, list) and key.isdigit() else _of(here, key, found[0])
        return quote(str(here), safe="")

    return PLACE.sub(value, path)


def _body(answer: Answer) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _of(here: Any, key: str, place: str) -> Any:
    if not isinstance(here, dict) or here.get(key) is None:
        raise LookupError(place)
    return here[key]


def _told(verdict: Verdict, problem: str) -> Verdict:
    """The same verdict with *problem* told as well."""
    both = f"{verdict.reason}; {problem}"
    return Verdict(verdict.question, verdict.outcome, both, verdict.expected, verdict.seen, verdict.evidence)

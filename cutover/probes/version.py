"""Whether it is the service, and the release, that we believe it to be."""

from __future__ import annotations

from typing import Any

import httpx

from cutover.core.config_schema import Version
from cutover.core.verdict import Verdict, no, yes
from cutover.http import Answer, Silence, ask, judge_silence
from cutover.probes.matching import differences, json_problem, spelt, status_problem, with_some_tag, with_tag
from cutover.target import Control

DEFAULT = {"version": "{tag}"}  # an empty `json` would check nothing and still say yes


def version(http: httpx.Client, control: Control, wanted: Version, tag: str | None) -> Verdict:
    """Ask the service what it is; *tag* is the release it should be, None when nobody knows."""
    said = ask(http, "GET", wanted.path)
    if isinstance(said, Silence):
        return judge_silence("version", said, control)
    return judge_version(said, wanted.json_ or DEFAULT, tag)


def judge_version(answer: Answer, wanted: dict[str, Any], tag: str | None) -> Verdict:
    """Yes when the body holds *wanted* with `{tag}` filled in; without a tag, with any version."""

    def compare(body: Any) -> list[str]:
        return differences(with_tag(wanted, tag) if tag else with_some_tag(wanted, body), body)

    problem = status_problem(answer, 200) or json_problem(answer, compare)
    expected = spelt(with_tag(wanted, tag or "<any version>"))
    if problem:
        return no("version", problem, expected=expected, **answer.evidence)
    said = ", ".join(f"{key} {answer.json()[key]}" for key in wanted if isinstance(answer.json()[key], str))
    return yes("version", said or "as expected", expected=expected, **answer.evidence)

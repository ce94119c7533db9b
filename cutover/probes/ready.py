"""Whether the target says that it may take traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from cutover.core.config_schema import Ready
from cutover.core.verdict import Verdict, no, yes
from cutover.http import Answer, Asking, Silence, ask, judge_silence
from cutover.probes.matching import differences, json_problem, spelt, status_problem
from cutover.target import Control


def ready(http: httpx.Client, control: Control, wanted: Ready) -> Verdict:
    """Ask where the service says that it is ready, and judge the answer, or the silence."""
    said = ask(http, "GET", wanted.path, Asking(deadline_s=wanted.deadline))
    if isinstance(said, Silence):
        return judge_silence("ready", said, control)
    return judge_ready(said, wanted.json_)


def judge_ready(answer: Answer, wanted: Mapping[str, Any]) -> Verdict:
    """Yes for status 200, no redirect, and a JSON body that says *wanted*, type by type."""
    problem = status_problem(answer, 200) or json_problem(
        answer, lambda body: differences(dict(wanted), body)
    )
    expected = f"200 {spelt(dict(wanted))}"
    if problem:
        return no("ready", problem, expected=expected, seen=str(answer.status), **answer.evidence)
    return yes("ready", f"says so in {answer.seconds * 1000:.0f} ms", expected=expected, **answer.evidence)

"""Why a release did not come up: what became of its container, in the words of who looks at night."""

from __future__ import annotations

from cutover.container import Container
from cutover.probes.health import evidence, how_it_died, judge_health
from cutover.probes.stamps import spoken
from cutover.verdict import Outcome, Verdict, no

QUESTION = "up"


def not_up(found: Container | None, said: str, waited: float, longest: float) -> Verdict:
    """The no of an `up` that failed after *waited* seconds; *said* is Compose's own last line."""
    if found is None:
        return no(QUESTION, f"no container is there; docker compose said: {said}")
    if found.status == "restarting" or (found.running and found.restart_count):
        return no(QUESTION, _looping(found, waited), **evidence(found))
    if not found.running:
        return no(QUESTION, f"{how_it_died(found)}; docker compose said: {said}", **evidence(found))
    verdict = judge_health(found, None)
    if verdict.outcome is Outcome.NO:
        return no(
            QUESTION,
            f"not after {spoken(waited)} of at most {longest:g} s: {verdict.reason}",
            **evidence(found),
        )
    state = f"{found.status}, {found.health_status}"
    return no(
        QUESTION, f"not after {spoken(waited)}: {state}; docker compose said: {said}", **evidence(found)
    )


def _looping(found: Container, waited: float) -> str:
    times = "once" if found.restart_count == 1 else f"{found.restart_count} times"
    code = "" if found.running else f", last exit code {found.exit_code}"
    return f"crash loop: restarted {times} in {spoken(waited)}{code}"

"""pytest's own junit.xml, finished: what the session was about as properties of its suite, and the mask over all."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from cutover.evidence import Evidence
from cutover.report.ending import Ending
from cutover.report.html import CONTROL, masked_page
from cutover.report.summary import properties


def with_properties(xml: str, rows: Iterable[tuple[str, str]]) -> str:
    """*xml* masked, with *rows* as the first child of its suite, where the format wants them."""
    done = masked_page(xml)
    start = done.find("<testsuite ")
    end = done.find(">", start)
    if start < 0 or end < 0 or done[end - 1] == "/":
        return done
    said = "".join(f'<property name="{_text(name)}" value="{_text(value)}"/>' for name, value in rows)
    opened = done.find("<properties>", end)
    if 0 <= opened <= end + 1:
        place = opened + len("<properties>")
        return f"{done[:place]}{said}{done[place:]}"
    return f"{done[: end + 1]}<properties>{said}</properties>{done[end + 1 :]}"


def _text(value: str) -> str:
    return escape(CONTROL.sub("�", value))


def finish_junit(file: Path, evidence: Evidence, ending: Ending) -> None:
    """Finish the file that pytest wrote; where it wrote none there is none."""
    if not file.is_file():
        return
    done = with_properties(file.read_text(encoding="utf-8", errors="replace"), properties(evidence, ending))
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(done, encoding="utf-8")
    draft.replace(file)

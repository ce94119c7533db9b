"""pytest's junit.xml completed: the result as properties of its suite, every text masked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from cutover.core.evidence import Evidence
from cutover.core.masking import MASK
from cutover.core.result import SessionResult
from cutover.report.escape import clean
from cutover.report.github import properties

EMPTY_SUITE = re.compile(r"<testsuite\b[^>]*/>")


def with_properties(xml: str, rows: Iterable[tuple[str, str]]) -> str:
    """*xml* masked, with *rows* (name, value) as the first properties of its suite; only masked if it has no suite."""
    xml = MASK(xml)
    try:
        root = ET.fromstring(xml)  # noqa: S314 - written by pytest a moment ago
    except ET.ParseError:
        return xml
    suite = root if root.tag == "testsuite" else root.find("testsuite")
    if suite is None or EMPTY_SUITE.search(xml):
        return xml
    there = suite.find("properties")
    if there is None:
        there = ET.Element("properties")
        suite.insert(0, there)
    for number, (name, value) in enumerate(rows):
        there.insert(number, ET.Element("property", name=clean(name), value=clean(value)))
    done: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return done.decode()


def finish_junit(file: Path, evidence: Evidence, result: SessionResult) -> None:
    """Complete the file that pytest wrote; does nothing if there is none. Raises OSError."""
    if not file.is_file():
        return
    done = with_properties(file.read_text(encoding="utf-8", errors="replace"), properties(evidence, result))
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(done, encoding="utf-8")
    draft.replace(file)

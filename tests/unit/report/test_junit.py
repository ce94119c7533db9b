from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from cutover.core.masking import MASK
from cutover.report.page import finish_junit, with_properties
from tests.unit.report.sessions import reverted

XML = (
    '<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="0" '
    'tests="1">{0}<testcase classname="a" name="b"><failure message="got hunter22&amp;&lt;x&gt;">&quot;</failure>'
    "</testcase></testsuite></testsuites>"
)


@pytest.mark.parametrize("there", ["", '<properties><property name="own" value="1"/></properties>'])
def test_the_suite_says_what_was_released(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The properties are added beside existing ones, and the file is masked."""
    monkeypatch.setattr(MASK, "values", {"hunter22&<x>"})
    file = tmp_path / "junit.xml"
    file.write_text(XML.format(there), encoding="utf-8")
    made = reverted()
    finish_junit(file, made.evidence, made.result)
    text = file.read_text(encoding="utf-8")
    suite = ET.fromstring(text).find("testsuite")  # noqa: S314 - our own file
    assert suite is not None
    found = {each.get("name"): each.get("value") for each in suite.iterfind("properties/property")}
    assert found["cutover.status"] == "ROLLED BACK"
    assert found["cutover.checks"] == "13 passed, 1 failed, 1 unknown, 1 not asked"
    assert ("own" in found) is bool(there)
    assert len(suite.findall("properties")) == 1
    assert suite[0].tag == "properties"
    assert "hunter22" not in text


def test_what_is_no_suite_is_left_alone(tmp_path: Path) -> None:
    """No file, an empty suite, other or damaged XML cause no error."""
    made = reverted()
    finish_junit(tmp_path / "none.xml", made.evidence, made.result)
    assert not list(tmp_path.iterdir())
    assert with_properties("<testsuite", [("a", "b")]) == "<testsuite"
    assert with_properties("<other/>", [("a", "b")]) == "<other/>"
    assert with_properties('<testsuite name="x"/>', [("a", "b")]) == '<testsuite name="x"/>'
    assert 'value="&quot;&lt;�"' in with_properties('<testsuite name="x"></testsuite>', [("a", '"<\x00')])

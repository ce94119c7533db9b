"""Sections of docs/benchmarks.md, each written by one benchmark."""

from __future__ import annotations

from benchmarks.write import replaced


def test_a_section_replaces_itself_alone() -> None:
    r"""A section is replaced between its markers, other sections stay, and the text is inserted literally (\1 too)."""
    page = replaced(replaced("# Benchmarks\n", "one", "first"), "two", "second")
    again = replaced(page, "one", r"new \1 \g<0>")
    assert again == page.replace("first", r"new \1 \g<0>")
    assert again.index("<!-- one -->") < again.index("<!-- two -->")

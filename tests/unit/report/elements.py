"""What an HTML page consists of."""

from __future__ import annotations

from html.parser import HTMLParser

LOADS = {"src", "srcset", "data", "action", "formaction", "poster", "background", "ping"}


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

"""Three answers to one request: what is noise of the old release, and what the new one answers differently."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cutover.core.text import stamp
from cutover.gate.comparison import Answer, Compared, Comparison, compare_all

NOW = 1_790_000_000.0
JSON, HTML = {"content-type": "application/json"}, {"content-type": "text/html; charset=utf-8"}
ITEM = {
    "id": 7,
    "name": "tea",
    "price": 2.345,
    "tags": ["a", "b"],
    "made": "2026-01-01T10:00:00Z",
    "owner": None,
}


def said(body: Any, status: int = 200, seconds: float = 0.01, **more: str) -> Answer:
    """An answer with JSON, or with HTML if *body* is a text; *more* are headers, with _ for -."""
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    if isinstance(body, str):
        return Answer(status, HTML | headers, body, seconds, HTML["content-type"])
    kept = JSON | headers
    return Answer(status, kept, json.dumps(body), seconds, kept["content-type"])


def compared(*answers: tuple[Answer | None, Answer | None, Answer | None], **more: Any) -> Comparison:
    """The comparison of triples on one route."""
    rows = [Compared("GET /items/*", "GET /items/7", (one, two), new) for one, two, new in answers]
    return compare_all(rows, now=NOW, **more)


def changed(**fields: Any) -> dict[str, Any]:
    """The item with other fields; None as the class `gone` removes one."""
    return {key: value for key, value in (ITEM | fields).items() if value is not GONE}


GONE = object()


@pytest.mark.parametrize(
    ("new", "text"),
    [
        (said(changed(tags=GONE)), 'field "tags" is gone, 1 of 1'),
        (said(changed(extra=1)), 'field "extra" is new, 1 of 1'),
        (said(changed(name=None)), '"name" is null instead of text, 1 of 1'),
        (said(changed(owner="ana")), '"owner" is text instead of null, 1 of 1'),
        (said(changed(id="7")), '"id" is text instead of number, 1 of 1'),
        (said(changed(tags=["b", "a"])), '"tags" has another order, 1 of 1'),
        (said(changed(tags=["a"])), 'field "tags.length" is 1 instead of 2, 1 of 1'),
        (said(changed(price=2.35)), 'field "price" is 2.35 instead of 2.345, 1 of 1'),
        (said(changed(made="2026-01-01T19:00:00Z")), 'field "made" is 2026-01-01T19:00:00Z instead of'),
        (
            said(changed(made="2026-01-01T10:00:00+00:00")),
            'field "made" is 2026-01-01T10:00:00+00:00 instead',
        ),
        (said({"error": "x"}, 404), "status 404 instead of 200, 1 of 1"),
        (said({"error": "x"}, 503), "503 instead of 200, 1 of 1"),
        (None, "no answer instead of 200, 1 of 1"),
        (said(ITEM, cache_control="no-store"), "header cache-control is no-store instead of absent"),
        (
            said(ITEM, content_type="application/json; charset=latin-1"),
            '"content-type" is application/json',
        ),
    ],
)
def test_a_difference_is_named_by_route_and_kind(new: Answer | None, text: str) -> None:
    """What the new answer has otherwise than both old ones."""
    found = compared((said(ITEM), said(ITEM), new))
    assert found.groups[0].text.startswith(f"GET /items/*: {text}")
    assert len(found.groups) == 1
    assert found.noise == ()


@pytest.mark.parametrize(
    ("first", "second", "new"),
    [
        (changed(score=1), changed(score=2), changed(score=3)),
        (changed(tags=["a", "b", "c"]), changed(tags=["c", "a", "b"]), changed(tags=["b", "c", "a"])),
        (changed(flag=True), changed(flag=GONE), changed(flag=GONE)),
        (changed(at=stamp(NOW - 3)),) * 2 + (changed(at=stamp(NOW - 1)),),
        (changed(at=NOW - 3),) * 2 + (changed(at=NOW - 1),),
        (changed(release="sha-1"),) * 2 + (changed(release="sha-2"),),
        (changed(host="8d3f0c2a9b11"),) * 2 + (changed(host="11aa22bb33cc"),),
        (changed(trace="0b7e6a52-6b1f-4a8e-9f5e-2f6f1f1d2c3a"),) * 2
        + (changed(trace="5d0f0e9c-1b1f-4a8e-9f5e-2f6f1f1d2c3b"),),
    ],
    ids=["counter", "shuffled", "optional", "stamp", "epoch", "release", "container", "uuid"],
)
def test_noise_is_no_difference(first: dict[str, Any], second: dict[str, Any], new: dict[str, Any]) -> None:
    """What two old answers differ in, and what any two processes differ in."""
    assert compared((said(first), said(second), said(new)), names=("sha-1", "sha-2")).groups == ()


def test_noise_of_one_request_is_noise_of_its_route() -> None:
    """A flag that is thrown for each request differs between the old answers of some requests only."""
    found = compared(
        (said(changed(flag="a")), said(changed(flag="a")), said(changed(flag="b"))),
        (said(changed(flag="a")), said(changed(flag="b")), said(changed(flag="a"))),
    )
    assert found.groups == ()
    assert found.noise == ("GET /items/*: flag",)


def test_noise_hides_no_other_difference() -> None:
    """In a shuffled list with a changing value, a field that is gone is found."""
    rows: list[dict[str, Any]] = [{"id": n, "name": f"n{n}", "score": n} for n in range(5)]

    def shuffled(shift: int, *, gone: bool = False) -> Answer:
        turned = rows[shift:] + rows[:shift]
        return said(
            {
                "items": [
                    {
                        k: v + shift if k == "score" else v
                        for k, v in each.items()
                        if not (gone and k == "name")
                    }
                    for each in turned
                ]
            }
        )

    found = compared((shuffled(0), shuffled(1), shuffled(2, gone=True)))
    assert [each.text for each in found.groups] == ['GET /items/*: field "items[].name" is gone, 1 of 1']
    assert found.noise == ("GET /items/*: items", "GET /items/*: items[].score")


@pytest.mark.parametrize(
    ("new", "kind"),
    [
        (said({}, 500), "5xx"),
        (None, "5xx"),
        (said({}, 404), "status"),
        (said({}, 302, location="/x"), "status"),
    ],
)
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (said(1), said(2)),
        (said("requests 1"), said("requests 8")),
        (Answer(200, {}, "requests 1", content_type="text/plain"), Answer(200, {}, "requests 8")),
        (said(ITEM, etag="1"), said(ITEM)),
        (said({"": 1}), said({"": 2})),
        (said({"": 1}), said({})),
    ],
    ids=["root", "html", "text", "header", "nameless", "optional nameless"],
)
def test_no_noise_hides_a_status(first: Answer, second: Answer, new: Answer | None, kind: str) -> None:
    """A route whose old answers differ as a whole: a 5xx, no answer or another status is still a difference."""
    found = compared(*[(first, second, new)] * 10)
    assert [(each.kind, each.times) for each in found.groups] == [(kind, 10)]
    assert compared((first, second, new), ignore=("*", "GET /items/*: *")).groups[0].kind == kind
    assert compared((first, second, second)).groups == ()


@pytest.mark.parametrize(
    ("first", "second", "new", "why"),
    [
        (None, said(ITEM), said(ITEM), "the old release gave no answer"),
        (said(ITEM), said(ITEM), said({}, 429), "a rate limit (429)"),
        (said(ITEM, 500), said(ITEM, 500), said(ITEM), "the old release answers 5xx"),
        (said(ITEM), said(ITEM, 404), said(ITEM), "the old release answers with two statuses"),
    ],
)
def test_what_cannot_be_compared_is_counted(
    first: Answer | None, second: Answer | None, new: Answer | None, why: str
) -> None:
    """It is no difference."""
    found = compared((first, second, new))
    assert (found.groups, found.compared, dict(found.not_compared)) == ((), 0, {why: 1})


def test_the_same_difference_is_told_once() -> None:
    """Grouped by route and kind, with one example."""
    rows = [(said(ITEM), said(ITEM), said(changed(tags=GONE) if n % 2 else ITEM)) for n in range(82)]
    (group,) = compared(*rows).groups
    assert group.text == 'GET /items/*: field "tags" is gone, 41 of 82'
    assert (group.request, group.old, group.new) == ("GET /items/7", '["a", "b"]', "")


@pytest.mark.parametrize("ignore", ["price", "GET /items/*: price", "p*", "*"])
def test_what_a_team_ignores(ignore: str) -> None:
    """Fields everywhere or on one route."""
    row = (said(ITEM), said(ITEM), said(changed(price=1.0)))
    assert compared(row, ignore=(ignore,)).groups == ()
    assert len(compared(row, ignore=("GET /others: price", "price.x")).groups) == 1


PAGE = '<html><body><h1>Tea</h1><ul><li id="item-1">one</li><li id="item-2">two</li></ul><p>Total 3</p></body></html>'


@pytest.mark.parametrize(
    ("new", "text"),
    [
        (
            PAGE.replace('<li id="item-2">two</li>', ""),
            'element "html/body/ul/li#item-*" appears 1 × instead of 2 ×',
        ),
        (PAGE.replace("Total 3", "Total 4"), 'text of "html/body/p/text" differs'),
        (PAGE.replace("<h1>Tea</h1>", "<h2>Tea</h2>"), 'element "html/body/h1" appears 0 × instead of 1 ×'),
    ],
)
def test_html_is_compared_by_structure(new: str, text: str) -> None:
    """Elements by their path, and their texts."""
    found = compared((said(PAGE), said(PAGE), said(new)))
    assert any(each.text.startswith(f"GET /items/*: {text}") for each in found.groups), found.groups
    assert compared((said(PAGE), said(PAGE), said(PAGE.replace("><", ">\n  <")))).groups == ()


def test_a_redirect_to_elsewhere() -> None:
    """Another path, and another host: `answer_of` has left out that of a color."""
    one = said({}, 302, location="/login")
    for other in ("/signin", "https://shop.example/login"):
        (group,) = compared((one, one, said({}, 302, location=other))).groups
        assert group.kind == "redirect"


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("/login", "/login"),
        ("/items/8", "/items/8"),
        ("/reset/k3J9xQ0aB7cD2eF4gH6iJ/next", "/reset/*/next"),
        ("/pay?code=k3J9x&page=2#token=k3J9x", "/pay?code=…&page=…#…"),
        ("https://shop-2.internal.example:8443/pay/k3J9xQ0aB7cD2eF4gH6iJ?k3J9xQ0aB7cD2eF4gH6iJ",
         "https://shop-2.internal.example:8443/pay/*?*=…"),
        ("", "gone"),
    ],
)  # fmt: skip
def test_a_redirect_shows_no_token(location: str, shown: str) -> None:
    """Compared with its values, shown without them."""
    one = said({}, 302, location="/a?code=7")
    (group,) = compared((one, one, said({}, 302, location=location))).groups
    assert group.text == f"GET /items/*: redirects to {shown} instead of /a?code=…, 1 of 1"


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("/v2/account/settings", "/v1/login/expired-session", False),
        ("https://shop.example/checkout/step2", "https://shop.example/login/blocked5", False),
        ("https://shop-2.example.com/a", "https://login-7.example.com/a", False),
        ("/posts/how-to-bake-bread-in-10-minutes", "/posts/what-we-learned-in-2024-so-far", False),
        ("/pay?next=checkout1&step=of-the-whole-way", "/pay?next=logout1&step=of-the-whole-way", False),
        ("Account/Settings/Page7/x", "Account/Login/Expired7/x", False),
        ("/pay/k3J9xQ0aB7cD2eF4gH6iJ", "/pay/z8Y6xW4vU2tS0rQ1pO3nM", True),
        ("/pay/k3J9xQ0aB7cD2eF4gH6iJ", "/refund/z8Y6xW4vU2tS0rQ1pO3nM", False),
        ("/pay?code=k3J9xQ0a-7cD2eF4gH6iJK&x=1", "/pay?code=z8Y6xW4vU2tS_rQ1pO3nMz&x=1", True),
        ("/pay?code=k3J9xQ0a-7cD2eF4gH6iJK&x=1", "/pay?code=z8Y6xW4vU2tS_rQ1pO3nMz&x=2", False),
        ("a3/+Zk9xQ0aB7cD2eF4gH6==", "Q8/x+Y6xW4vU2tS0rQ1pO3==", True),
        ("eyJhbGciOiJIUzI1.eyJ1c2VyIjoxfQ.k3J9-x_Q0", "eyJhbGciOiJIUzI1.eyJ1c2VyIjoyfQ.z8Y6-x_W4", True),
        ("main.0a1b2c3d4e5f6a7b8c9d.js", "vendor.1a1b2c3d4e5f6a7b8c9d.css", False),
        ("8d3f0c2a9b11", "11aa22bb33cc", True),
        ("x" * 200_000, "y" * 200_000, False),
        ("ey-" * 100_000, "ey_" * 100_000, False),
    ],
)
def test_a_token_is_a_part_of_a_path(one: str, two: str, same: bool) -> None:
    """Two paths are the same if they differ in tokens only; a value with / + = or . may be one token as a whole."""
    old = said({"at": one}, 302, location=one)
    found = compared((old, old, said({"at": two}, 302, location=two))).groups
    assert [each.kind for each in found] == ([] if same else ["redirect", "value"])


@pytest.mark.parametrize(
    ("names", "one", "two", "same"),
    [
        (("1", "2"), "12:00", "21:00", False),
        (("1", "2"), "page 1", "page 2", False),
        (("1", "2"), "1", "2", True),
        (("1.2.0", "1.3.0"), "shop/1.2.0", "shop/1.3.0", True),
        (("1.2.0", "1.3.0"), "ready: v1.2.0", "ready: v1.3.0", True),
        (("1.2.0", "1.3.0"), "11.2.0", "11.3.0", False),
        (("1.2", "1.2.1"), "shop 1.2", "shop 1.2.1", True),
        (("blue", "green"), "recall_blue-api-1", "recall_green-api-1", True),
        (("blue", "green"), "blueberry", "greenberry", False),
        (("a.c", ""), "abc", "a.c", False),
    ],
)
def test_names_of_the_releases_are_words(names: tuple[str, ...], one: str, two: str, same: bool) -> None:
    """A tag within another word or number is none."""
    found = compared((said({"at": one}), said({"at": one}), said({"at": two})), names=names).groups
    assert (not found) is same


def test_a_slower_route() -> None:
    """By pairs of the same request; one slow answer, and a few requests, say nothing."""
    quick = said(ITEM, seconds=0.02)
    slow = [(quick, quick, said(ITEM, seconds=0.08))] * 12
    (group,) = compared(*slow).groups
    assert group.text == "GET /items/*: takes 80 ms instead of 20 ms, 12 of 12"
    assert compared(*slow[:5]).groups == ()
    assert compared(*[(quick, quick, quick)] * 12, slow[0]).groups == ()
    assert compared(*[(quick, quick, said(ITEM, seconds=0.022))] * 40).groups == ()

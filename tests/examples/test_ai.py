from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from examples.ai.server import MODEL, Endpoint, completion

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def endpoint() -> Iterator[httpx.Client]:
    """HTTP client of a running endpoint."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{server.server_port}", timeout=60, trust_env=False
        ) as client:
            yield client
        server.shutdown()
        thread.join()


def test_it_lists_its_model(endpoint: httpx.Client) -> None:
    """``/v1/models`` has the format of the OpenAI API."""
    answer = endpoint.get("/v1/models")
    assert answer.status_code == 200
    assert answer.json()["object"] == "list"
    assert [model["id"] for model in answer.json()["data"]] == [MODEL]


def test_it_completes(endpoint: httpx.Client) -> None:
    """``/v1/completions`` returns choices and usage on a keep-alive connection."""
    for limit, text, reason in ((2, "b c", "length"), (9, "a b c", "stop")):
        answer = endpoint.post(
            "/v1/completions", json={"model": MODEL, "prompt": "a b c", "max_tokens": limit}
        )
        assert answer.status_code == 200
        assert answer.json()["choices"][0] == {
            "index": 0,
            "text": text,
            "logprobs": None,
            "finish_reason": reason,
        }
        assert answer.json()["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"model": MODEL, "prompt": "x"}, 200),
        ({"model": "gpt-9", "prompt": "x"}, 404),
        ({"model": MODEL}, 400),
        ({"model": MODEL, "prompt": ["x"]}, 400),
        ({"model": MODEL, "prompt": "x", "max_tokens": 0}, 400),
        ({"model": MODEL, "prompt": "x", "max_tokens": True}, 400),
        ([], 400),
        (None, 400),
    ],
)
def test_it_refuses_in_the_protocols_words(asked: Any, status: int) -> None:
    """An invalid request gets an error status and an error object."""
    answered, body = completion(asked)
    assert answered == status
    assert ("error" in body) is (status != 200)


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/", b"", 404),
        ("GET", "/health", b"", 200),
        ("POST", "/v1/chat/completions", b"{}", 404),
        ("POST", "/v1/completions", b"{", 400),
        ("POST", "/v1/completions", b"\xff", 400),
        ("POST", "/v1/completions", b"x" * (1 << 20) + b"x", 413),
    ],
)
def test_it_answers_every_request(
    endpoint: httpx.Client, method: str, path: str, content: bytes, status: int
) -> None:
    """Every request gets a response, also an invalid one."""
    assert endpoint.request(method, path, content=content).status_code == status

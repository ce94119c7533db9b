"""A small OpenAI-compatible server: the real protocol, with a model that echoes the end of the prompt."""

from __future__ import annotations

import json
import os
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "recall-tiny"
LARGEST_BODY = 1 << 20


def models() -> dict[str, Any]:
    """Response body of ``GET /v1/models``."""
    one = {"id": MODEL, "object": "model", "created": 1700000000, "owned_by": "recall"}
    return {"object": "list", "data": [one]}


def completion(asked: object) -> tuple[int, dict[str, Any]]:
    """Status and body of ``POST /v1/completions``; the text is the last *max_tokens* words of the prompt."""
    if not isinstance(asked, dict) or not isinstance(asked.get("prompt"), str):
        return 400, failure("prompt: expected a string")
    if asked.get("model") != MODEL:
        return 404, failure(f"The model `{asked.get('model')}` does not exist.", "NotFoundError")
    limit = asked.get("max_tokens", 16)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        return 400, failure("max_tokens: expected an integer of at least 1")
    words = asked["prompt"].split()
    said = words[-limit:]
    choice = {
        "index": 0,
        "text": " ".join(said),
        "logprobs": None,
        "finish_reason": "stop" if len(words) <= limit else "length",
    }
    usage = {
        "prompt_tokens": len(words),
        "completion_tokens": len(said),
        "total_tokens": len(words) + len(said),
    }
    return 200, {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [choice],
        "usage": usage,
    }


def failure(message: str, kind: str = "BadRequestError") -> dict[str, Any]:
    """Error body in OpenAI's format."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


class Endpoint(BaseHTTPRequestHandler):
    """Request handler for the calls that recall makes; every other path returns 404."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Handle ``/v1/models`` and ``/health``."""
        if self.path == "/v1/models":
            self._answer(200, models())
        elif self.path == "/health":
            self._answer(200, {})
        else:
            self._answer(404, failure("Not Found", "NotFoundError"))

    def do_POST(self) -> None:
        """Handle ``/v1/completions``."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > LARGEST_BODY:
            self.close_connection = True
            self._answer(413, failure("body too large"))
            return
        body = self.rfile.read(length)
        if self.path != "/v1/completions":
            self._answer(404, failure("Not Found", "NotFoundError"))
            return
        try:
            self._answer(*completion(json.loads(body)))
        except ValueError:
            self._answer(400, failure("body: expected JSON"))

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, template: str, *values: object) -> None:
        """Log one JSON line per request, except health checks and model listings."""
        if self.path not in ("/health", "/v1/models"):
            print(json.dumps({"level": "INFO", "msg": template % values}), flush=True)


def main() -> None:
    """Run the server until the process is stopped."""
    server = ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Endpoint)  # noqa: S104 - published by the container only
    server.serve_forever()


if __name__ == "__main__":
    main()

"""A service of notes, as small as one can be: the one that docs/getting-started.md is followed with."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "/healthz": {"status": "ok"},
    "/version": {"name": "notes", "version": os.environ["IMAGE_TAG"]},
    "/notes": {"notes": ["buy milk"]},
}


class Notes(BaseHTTPRequestHandler):
    """Answers what it knows, and 404 for the rest."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """One JSON document."""
        known = ANSWERS.get(self.path)
        body = json.dumps(known if known is not None else {"error": "not found"}).encode()
        self.send_response(200 if known is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("", 8000), Notes).serve_forever()

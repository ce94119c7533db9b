"""A minimal notes service, used to follow docs/getting-started.md."""

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
    """Request handler: JSON for known paths, 404 for others."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send one JSON document."""
        known = ANSWERS.get(self.path)
        body = json.dumps(known if known is not None else {"error": "not found"}).encode()
        self.send_response(200 if known is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("", 8000), Notes).serve_forever()

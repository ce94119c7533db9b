"""A Unix socket that passes connections on to the Docker engine, and that can refuse them or fall silent."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

ENGINE = Path("/var/run/docker.sock")
CHUNK = 65536


class EngineRelay:
    """A socket at *path* for DOCKER_HOST."""

    def __init__(self, path: Path, engine: Path = ENGINE) -> None:
        self.path, self.engine = path, engine
        self._speaks = threading.Event()
        self._speaks.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.answer()

    @property
    def url(self) -> str:
        """The value of DOCKER_HOST."""
        return f"unix://{self.path}"

    def answer(self) -> None:
        """Pass everything on, from now on."""
        self._speaks.set()
        if self._listener is None:
            self.path.unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.path))
            self._listener.listen(256)
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse connections and cut those that are open, as an engine that has ended."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def mute(self) -> None:
        """Accept connections and pass nothing on, as an engine that is stopped."""
        self._speaks.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine:
            self._speaks.wait()
            try:
                engine.connect(str(self.engine))
            except OSError:
                return
            with self._lock:
                self._open |= {client, engine}
            back = threading.Thread(target=self._pump, args=(engine, client), daemon=True)
            back.start()
            self._pump(client, engine)
            back.join()
            with self._lock:
                self._open -= {client, engine}

    def _pump(self, source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                self._speaks.wait()
                to.sendall(chunk)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_WR)

"""Clients of the optional dependencies: Redis cache and OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import logging
import urllib.request
from typing import Any

import redis

PATIENCE_S = 0.4  # three dependency checks must fit into one health probe of 1 s
TTL_S = 60

log = logging.getLogger("recall.outside")


class Cache:
    """Cache of memories by id in Redis. A Redis failure counts as a cache miss and logs a warning."""

    def __init__(self, url: str) -> None:
        self._redis = (
            redis.Redis.from_url(url, socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S)
            if url
            else None
        )

    def __bool__(self) -> bool:
        return self._redis is not None

    def answers(self) -> None:
        """Ping Redis; raise if it does not respond."""
        if self._redis is not None:
            self._redis.ping()

    def get(self, key: int) -> dict[str, Any] | None:
        """The cached memory, or None."""
        if self._redis is None:
            return None
        try:
            found = self._redis.get(f"recall:memory:{key}")
            return None if found is None else dict(json.loads(found))
        except (redis.RedisError, ValueError) as failure:
            log.warning("cache read failed: %s", failure)
            return None

    def put(self, key: int, memory: dict[str, Any]) -> None:
        """Cache *memory* for one minute."""
        if self._redis is None:
            return
        try:
            self._redis.set(f"recall:memory:{key}", json.dumps(memory), ex=TTL_S)
        except redis.RedisError as failure:
            log.warning("cache write failed: %s", failure)


class Model:
    """Client of an OpenAI-compatible endpoint over plain HTTP."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        # Ignore proxy variables: the endpoint must be contacted directly.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __bool__(self) -> bool:
        return bool(self._endpoint)

    def answers(self) -> None:
        """List the models; raise if the response contains none."""
        if self._endpoint:
            self._name()

    def complete(self, prompt: str) -> str:
        """The first completion of *prompt*."""
        body = {"model": self._name(), "prompt": prompt, "max_tokens": 32}
        answer = self._ask("/v1/completions", json.dumps(body).encode(), patience_s=5)
        return str(answer["choices"][0]["text"])

    def _name(self) -> str:
        return str(self._ask("/v1/models")["data"][0]["id"])

    def _ask(self, path: str, body: bytes | None = None, patience_s: float = PATIENCE_S) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the endpoint is configuration, not input
            self._endpoint + path, data=body, headers={"Content-Type": "application/json"}
        )
        with self._opener.open(request, timeout=patience_s) as response:
            return json.load(response)

"""Debian's registry as an image, with one user."""

from __future__ import annotations

from pathlib import Path

from examples import building

NAME, TOKEN = "ana", "canary-registry-token"
DOCKERFILE = f"""
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends docker-registry apache2-utils \\
    && rm -rf /var/lib/apt/lists/* && htpasswd -Bbn {NAME} {TOKEN} > /etc/docker/registry/users
ENV REGISTRY_AUTH=htpasswd REGISTRY_AUTH_HTPASSWD_REALM=test
ENV REGISTRY_AUTH_HTPASSWD_PATH=/etc/docker/registry/users
CMD ["docker-registry", "serve", "/etc/docker/registry/config.yml"]
"""


def registry_image(folder: Path) -> str:
    """Build it in the empty *folder* unless it is there; return its reference."""
    return building.have("cutover-registry:2", DOCKERFILE, folder)

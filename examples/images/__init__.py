"""Images of the proxy and the dependencies: Debian packages on debian:bookworm-slim, all run as non-root."""

from __future__ import annotations

from pathlib import Path

from examples.building import have

HERE = Path(__file__).parent
IMAGES: dict[str, tuple[str, Path]] = {
    "base": ("cutover-recall-base:1", HERE / "base"),
    "ai": ("cutover-ai:1", HERE.parent / "ai"),
    "nginx": ("cutover-nginx:1", HERE / "nginx"),
    "postgres": ("cutover-postgres:15", HERE / "postgres"),
    "redis": ("cutover-redis:7", HERE / "redis"),
    "prometheus": ("cutover-prometheus:2", HERE / "prometheus"),
}


def image(name: str) -> str:
    """Build the image *name*, and its base image if it has one; return its reference."""
    reference, folder = IMAGES[name]
    dockerfile = (folder / "Dockerfile").read_text()
    base, _ = IMAGES["base"]
    if f"FROM {base}" in dockerfile:
        image("base")
    return have(reference, dockerfile, folder)

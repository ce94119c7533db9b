"""Env files and secrets: what must hold for them, and how they are written from references."""

"""Env files: reading, writing, rules, and secrets from references."""

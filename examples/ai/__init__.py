"""A small OpenAI-compatible server for the example service."""

"""The host and its engine: processes, files, HTTP, Docker, Compose, registry. Imports only core."""

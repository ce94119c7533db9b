"""The host and its engine: processes, files, Docker, Compose, registry. Imports only core."""

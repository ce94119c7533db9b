"""A stand-in for the AI endpoint."""

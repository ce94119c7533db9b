"""A release is one pytest session: setup deploys, the tests decide, teardown keeps or reverts."""

__version__ = "0.1.0"

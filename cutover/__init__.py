"""A release is one pytest session: setup deploys, the tests decide, teardown keeps or takes back."""

__version__ = "0.1.0"

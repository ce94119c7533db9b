"""Tests of the service that is released for demonstration and for tests."""

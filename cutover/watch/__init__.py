"""Continuous checks of the live color: sources that are polled in the background, and pure judges."""

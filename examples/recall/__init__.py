"""The "recall" API, which stores short texts: the example service that this repository releases."""

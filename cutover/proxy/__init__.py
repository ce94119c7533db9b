"""Proxy drivers, and what surrounds a switch: access log, drain, proof."""

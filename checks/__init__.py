"""Continuous checks under traffic: the runbook's section 6 as tests."""

"""Is it still well under traffic? The runbook's section 6 as tests."""

"""May this target take traffic? The runbook's section 5 as tests."""

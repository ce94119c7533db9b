"""One-shot checks of a target: each asks once and returns a Verdict."""

"""What a machine lacks for the tests and the demo, brought step by step; only the standard library."""

"""What a clone runs: words passed on to one command each."""

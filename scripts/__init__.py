"""Scripts of a clone. Each shell script runs one command; the Python modules prepare the machine."""

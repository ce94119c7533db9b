"""Setup scripts of a checkout. Each shell script runs one command; the Python modules prepare the machine."""

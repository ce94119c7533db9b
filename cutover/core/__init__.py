"""Values and pure decisions: verdicts, configuration, errors, masking. Imports no other folder of the package."""

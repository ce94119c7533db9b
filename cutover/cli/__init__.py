"""The `cutover` commands: they parse options, call `release`, and print. The only folder that imports click."""

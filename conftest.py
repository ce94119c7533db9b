"""A clone works uninstalled: the plugin is named here, and by the entry point where it is installed."""

pytest_plugins = ["cutover.plugin"]

"""The commands of `cutover`, one file each."""

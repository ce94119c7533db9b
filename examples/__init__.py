"""A real service to release, so that the main job runs on a fresh machine."""

"""The questions: in each file a short asker and a pure judge that holds every rule."""

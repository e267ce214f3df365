"""One file a task: what is measured of it, and by which conventions."""

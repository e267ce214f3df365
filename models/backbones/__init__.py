"""Image networks, one file a family."""

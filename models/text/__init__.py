"""Text networks, one file a family."""

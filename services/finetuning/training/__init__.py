"""A fit: its recipe, the head, the training of both, and how a job follows it."""

"""Long work: jobs that are accepted once, survive whatever dies, and end exactly once."""

"""A fit: the training of head and encoder, what it gives, and how a job follows it."""

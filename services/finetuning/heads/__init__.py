"""The head of a classifier on fixed features, what it is trained by, and what it is told."""

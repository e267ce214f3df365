"""One request: what it carries, how its body and its images are read."""

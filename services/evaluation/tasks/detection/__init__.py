"""Detection: boxes in files against boxes in files, and what models find in the sets of a benchmark."""

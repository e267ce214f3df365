"""The model repository in Triton's layout: its writer, its locks, Triton's view of a model."""

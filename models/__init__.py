"""The networks in PyTorch, one folder a paper, and the catalog of servable models."""

"""Tensors in, tensors out: the backend protocol and the engines behind it."""

"""Bytes to pictures to model tensors: intake, decoding, preprocessing, remote fetch."""

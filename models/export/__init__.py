"""PyTorch to ONNX, quantisation and Triton's configuration."""

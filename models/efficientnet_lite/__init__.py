"""EfficientNet-Lite, the classifiers for photos that ship: the published weights as ONNX."""

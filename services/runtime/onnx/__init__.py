"""The embedded backend: models run in this process by ONNX Runtime or OpenVINO."""

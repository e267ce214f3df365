"""NanoDet-Plus-m, a detector of COCO's 80 kinds of object: the published weights, rebuilt in PyTorch and as ONNX."""

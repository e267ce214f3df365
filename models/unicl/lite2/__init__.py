"""UniCL for photos over two frozen networks: EfficientNet-Lite2 sees, MiniLM reads, a head on each meets the other."""

"""UniCL: networks, published checkpoints, loss, training and export."""

"""The pre-training job: image-text-label pairs, training with checkpoints, scores, export, three versions."""

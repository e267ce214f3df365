"""Fine-tuning of detectors: boxes of a data set in, a servable closed-set detector out."""

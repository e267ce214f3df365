"""KAdaptation (He et al., arXiv 2203.16329): Kronecker adaptation of vision transformers, and its baselines."""

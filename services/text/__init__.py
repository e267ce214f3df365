"""Text to model tensors: tokenizers, prompt templates, the text encoder and its cache."""

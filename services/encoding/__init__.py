"""Images and texts to vectors: what every task over towers needs. Label sets, templates, caches."""

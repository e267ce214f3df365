"""GLIP (arXiv 2112.03857): detection as grounding, a picture and a text to boxes for every phrase of the text."""

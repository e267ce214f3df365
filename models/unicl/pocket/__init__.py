"""Pictographs: one concept drawn in several styles, with names and keywords; the image-text-label set that ships."""

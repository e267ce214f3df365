"""Image data sets: safe import, formats, splits and few-shot sampling."""

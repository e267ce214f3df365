"""This checkout against another, side by side: the same answers, at what cost (``python -m speed.against --help``)."""

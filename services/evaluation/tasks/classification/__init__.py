"""Image classification, with one label an image or several: ELEVATER's way of measuring it."""

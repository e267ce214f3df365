"""What a search costs in passes of images through the encoder, here and in the published toolkit.

The toolkit runs the frozen encoder again in every epoch: each trial passes all images, those that train and those
that validate, ``SEARCH_EPOCHS`` times, and the last training passes them and the test images ``FINAL_EPOCHS`` times.
Here each image is passed once, and read from the cache afterwards.
"""

from __future__ import annotations

SEARCH_EPOCHS = 10
FINAL_EPOCHS = 50


def encoder_passes(images: int, test_images: int) -> int:
    """At most, when no image was encoded before."""
    return images + test_images


def reference_passes(images: int, test_images: int, trials: int) -> int:
    """Of the same search in the published toolkit."""
    return trials * SEARCH_EPOCHS * images + FINAL_EPOCHS * (images + test_images)

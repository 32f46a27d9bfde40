"""The 1,797 handwritten digits inside scikit-learn: 8 x 8 pixels, 17 grey levels, ten classes."""

import numpy as np
from sklearn.datasets import load_digits

from ddpm.data.images import ImageData
from ddpm.data.split import split_images

LEVELS = 17


def load() -> ImageData:
    """Real digits that need no download: 1,437 for training and 360 for testing, one channel."""
    images, labels = load_digits(return_X_y=True)
    pixels = images.astype(np.uint8).reshape(-1, 1, 8, 8)
    return split_images("digits", pixels, labels.astype(np.int64), LEVELS)

"""Whether samples cover all classes, judged by a classifier trained on real images."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ddpm.data.images import ImageData
from ddpm.evaluation.arrays import Images, representative, rows

SEED = 0


@dataclass(frozen=True)
class Coverage:
    """What a classifier of real images says about samples.

    Attributes:
        fractions: share of the samples in each class 0..K-1; they sum to 1.
        accuracy: share of the real test images that the classifier gets right, in [0, 1]: what
            its word is worth.
    """

    fractions: list[float]
    accuracy: float


def class_coverage(data: ImageData, samples: Images) -> Coverage | None:
    """Share of each class among samples, by logistic regression on real labelled images.

    Args:
        data: training images (at most 10,000 of them, evenly spaced, are used) and test images.
        samples: uint8 [N, C, H, W], N >= 1, images of the same size.

    Returns:
        The coverage, or None if the data have no labels or fewer than two classes.
    """
    if data.classes is None or data.train_labels is None or data.test_labels is None:
        return None
    chosen = representative(data.train)
    labels = data.train_labels.numpy()[chosen]
    if len(np.unique(labels)) < 2:
        return None
    scale = 1 / (data.levels - 1)
    model = _fit(scale * rows(data.train[chosen]), labels)
    predicted = model.predict(scale * rows(samples))
    accuracy = model.score(scale * rows(data.test), data.test_labels.numpy())
    counts = np.bincount(predicted, minlength=data.classes)
    return Coverage((counts / counts.sum()).tolist(), float(accuracy))


def _fit(pixels: np.ndarray, labels: np.ndarray) -> LogisticRegression:
    model = LogisticRegression(tol=1e-3, max_iter=300, random_state=SEED)
    with warnings.catch_warnings():
        # Stopping early is a mild regularisation; the accuracy reported says what it costs.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(pixels, labels)

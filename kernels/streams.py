"""The streams of random numbers, one tag for each use, so that no two uses share a draw."""

from enum import IntEnum


class Stream(IntEnum):
    """Tag in the low 8 bits of the fourth counter word; the values are part of the file format."""

    DATA_ORDER = 0
    LEVEL = 1
    TRAINING_NOISE = 2
    SAMPLING_NOISE = 3
    INITIAL_NOISE = 4
    AUGMENTATION = 5
    DROPOUT = 6
    EVALUATION_NOISE = 7
    WEIGHTS = 8
    LABEL = 9
    CONDITION_NOISE = 10
    PROBE = 11

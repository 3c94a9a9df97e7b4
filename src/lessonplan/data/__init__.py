"""Data: raw samples by index, keyed augmentation, stratified splits."""

from lessonplan.data.augment import Augment
from lessonplan.data.base import Source
from lessonplan.data.bundle import Data, load
from lessonplan.data.keyed import keyed_uniform
from lessonplan.data.preprocess import Preprocessing
from lessonplan.data.view import View
from lessonplan.data.wav import Recording

__all__ = ["Augment", "Data", "Preprocessing", "Recording", "Source", "View", "keyed_uniform", "load"]

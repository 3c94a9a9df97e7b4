"""Data: raw samples by index, keyed augmentation, stratified splits."""

from lessonplan.data.augment import Augment
from lessonplan.data.base import Source
from lessonplan.data.bundle import Data, load
from lessonplan.data.keyed import keyed_uniform
from lessonplan.data.preprocess import Preprocessing
from lessonplan.data.view import View

__all__ = ["Augment", "Data", "Preprocessing", "Source", "View", "keyed_uniform", "load"]

"""Data: raw samples by index, keyed augmentation, stratified splits."""

from .augment import Augment
from .base import Source
from .bundle import Data, load
from .keyed import keyed_uniform
from .preprocess import Preprocessing
from .view import View

__all__ = ["Augment", "Data", "Preprocessing", "Source", "View", "keyed_uniform", "load"]

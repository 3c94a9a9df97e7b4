"""Networks that have seen other data before: weights from files, put into networks whose head is new."""

from lessonplan.pretrained.files import read_weights
from lessonplan.pretrained.head import begin_head, find_head, last_parameters
from lessonplan.pretrained.matching import Match, NoMatch, put_weights

__all__ = ["Match", "NoMatch", "begin_head", "find_head", "last_parameters", "put_weights", "read_weights"]

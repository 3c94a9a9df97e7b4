"""Mixing: ``x, target = mix(x, y)``, in any loop, for any loss that takes soft targets."""

from lessonplan.mix import functional
from lessonplan.mix.base import Mix
from lessonplan.mix.cascade import Cascade, GradualCascade
from lessonplan.mix.combine import Chain, Choice, Probability, Until
from lessonplan.mix.manifold import ManifoldMixup
from lessonplan.mix.pairs import CutMix, Cutout, Mixup, SamplePairing
from lessonplan.mix.puzzle import PuzzleMix
from lessonplan.mix.stages import Stages
from lessonplan.mix.sums import SumAugment
from lessonplan.mix.text import parse_mix
from lessonplan.network.network import Network

__all__ = [
    "Cascade",
    "Chain",
    "Choice",
    "CutMix",
    "Cutout",
    "GradualCascade",
    "ManifoldMixup",
    "Mix",
    "Mixup",
    "Network",
    "Probability",
    "PuzzleMix",
    "SamplePairing",
    "Stages",
    "SumAugment",
    "Until",
    "functional",
    "parse_mix",
]

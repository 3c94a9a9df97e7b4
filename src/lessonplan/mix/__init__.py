"""Mixing: ``x, target = mix(x, y)``, in any loop, for any loss that takes soft targets."""

from lessonplan.mix import functional
from lessonplan.mix.base import Mix
from lessonplan.mix.cascade import Cascade, GradualCascade
from lessonplan.mix.combine import Choice, Probability, Until
from lessonplan.mix.pairs import CutMix, Cutout, Mixup, SamplePairing
from lessonplan.mix.spec import parse_mix
from lessonplan.mix.sums import SumAugment

__all__ = [
    "Cascade",
    "Choice",
    "CutMix",
    "Cutout",
    "GradualCascade",
    "Mix",
    "Mixup",
    "Probability",
    "SamplePairing",
    "SumAugment",
    "Until",
    "functional",
    "parse_mix",
]

"""Six small ideas of the thesis' last pages, each one class for a loop of your own (`docs/methods/ideas.md`)."""

from lessonplan.ideas.embedding_targets import EmbeddingTarget
from lessonplan.ideas.feature_map import FeatureMapAugment
from lessonplan.ideas.loss_deviation import LossDeviation, loss_deviation
from lessonplan.ideas.residual_momentum import ResidualMomentum
from lessonplan.ideas.sample_embeddings import SampleEmbeddings
from lessonplan.ideas.topk_attention import TopKAttention

__all__ = [
    "EmbeddingTarget",
    "FeatureMapAugment",
    "LossDeviation",
    "ResidualMomentum",
    "SampleEmbeddings",
    "TopKAttention",
    "loss_deviation",
]

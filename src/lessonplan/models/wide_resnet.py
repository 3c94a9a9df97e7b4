"""Wide residual networks."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.models.blocks import PreActBlock, make_stage
from lessonplan.models.common import check_dropout, conv3x3, global_mean, init_convs, norm_layer
from lessonplan.models.sizes import at_least_one, blocks_per_stage


class WideResNet(nn.Module):
    """WRN-depth-widen (Zagoruyko and Komodakis 2016): pre-activation blocks of widths 16w, 32w, 64w.

    Args:
        depth: 6n + 4 (10, 16, 22, 28, 40, ...); n blocks a stage.
        widen: the factor w, 1 or more.
        dropout: probability of dropping an activation between the two convolutions of a block, 0 <= p < 1.
            Like every ``nn.Dropout`` it draws from torch's global generator while training.
        norm: ``"batch"`` or ``"group"`` (16 channels a group; no statistics shared between samples).
        in_channels: channels of the images.
        num_classes: number of outputs.

    Takes ``(N, in_channels, H, W)``, gives logits ``(N, num_classes)``. WRN-40-4 has 8.9 M parameters,
    WRN-28-10 36.5 M.

    Raises:
        ConfigError: a depth, factor, dropout or norm that is not allowed.
    """

    stage_names: tuple[str, ...] = ("stage1", "stage2", "stage3")

    def __init__(
        self,
        depth: int = 16,
        widen: int = 1,
        *,
        dropout: float = 0.0,
        norm: str = "batch",
        in_channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        blocks = blocks_per_stage("wrn", depth, period=6, offset=4)
        at_least_one("widening factor of wrn", widen)
        check_dropout(dropout)
        make_norm = norm_layer(norm)
        block = partial(PreActBlock, norm=make_norm, dropout=dropout)
        self.stem = conv3x3(in_channels, 16)
        self.stage1 = make_stage(block, 16, 16 * widen, blocks)
        self.stage2 = make_stage(block, 16 * widen, 32 * widen, blocks, stride=2)
        self.stage3 = make_stage(block, 32 * widen, 64 * widen, blocks, stride=2)
        self.norm = make_norm(64 * widen)
        self.classifier = nn.Linear(64 * widen, num_classes)
        init_convs(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        logits: Tensor = self.classifier(global_mean(F.relu(self.norm(x))))
        return logits

"""The settings of a training run: everything but model, data, plan and budget."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lessonplan.strict import Strict


class Settings(Strict):
    """How a network is trained; every field can be given to ``fit`` by name.

    The defaults are the thesis' (batch 100, lr .05, Nesterov momentum .9), but for the schedule, which ends
    with the budget, and a stronger weight decay, as is usual for small data. From pretrained weights they are
    adamw with lr .0003 after a warm-up (.001 for a head alone), small batches and frozen statistics of batch
    normalisation.

    >>> Settings.make(lr=-1)
    Traceback (most recent call last):
    ...
    lessonplan.errors.ConfigError: setting lr=-1: give a number greater than 0
    """

    KIND: ClassVar[str] = "setting"
    PREFIX: ClassVar[str] = "setting "

    batch_size: Annotated[int, Field(ge=1)] | Literal["auto", "all"] = "auto"
    """Samples drawn for an update; "auto": 100, or half of a smaller training set; from weights a twelfth of it (8
    to 32, on kept features to 512); "all": the whole set."""
    optimizer: Literal["auto", "sgd", "adam", "adamw"] = "auto"
    """Update rule; "auto": adamw from weights that are good already, else sgd."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate; None: .05 for sgd, .001 for adam and adamw; .01 and .0003 where more than the head,
    normalisations or adapters train with weights from elsewhere."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd."""
    nesterov: bool = True
    """Nesterov's form of the momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """L2 penalty (decoupled for adamw)."""
    schedule: str = "auto"
    """Learning-rate schedule: constant, cosine, step, exponential or stagnation, with options after a colon
    (cosine:warmup=5%, step:at=150ep/250ep); "auto": cosine, which rises over the first tenth where more than the
    head, normalisations or adapters train with weights from elsewhere."""
    loss: Literal["ce", "sum-bce", "focal"] = "ce"
    """Soft cross-entropy, the thesis' binary cross-entropy divided by K, or focal loss: less for what is sure."""
    focal_gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """How much less, with loss=focal: the factor is (1 - p)^gamma; None: 2, the paper's."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast type of the forward pass; fp16 scales the loss."""
    channels_last: bool = False
    """Keep images and weights in channels-last memory."""
    compile: bool = False
    """Compile the network with torch.compile."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which is then what is evaluated and kept."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient."""
    keep: Literal["last", "best"] = "last"
    """Which weights a run ends with: the last ones or the best on validation data."""
    watch: Literal["accuracy", "loss", "balanced-accuracy", "macro-f1"] = "accuracy"
    """The validation metric that decides (cascades, keep=best): accuracy, loss, balanced-accuracy or macro-f1
    (the means of the classes' accuracies and of their F1: a rare class counts as much as a common one)."""
    evaluate_every: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Epochs between validations; "auto": after as many sample passes as there are training samples."""
    evaluate_train: bool = False
    """At every validation and at the end judge the whole training set too; with a selection always. Without a
    validation part it is judged as often."""
    evaluate_test: Literal["end", "curve"] = "end"
    """When test data are read: "end": once, after training; "curve": at every validation too (as often without a
    validation part), to reproduce sources that watched them; this decides nothing, and pages say it."""
    checkpoint_every: str = "60s"
    """Time or steps between checkpoints: "60s", "10min", "500 steps"."""
    weights: str | None = None
    """Where the network's weights come from: "pretrained" (what timm or transformers have for it), a file
    (safetensors, or a saved state dict), or the folder of a finished run; None: drawn by the seed."""
    head: str | None = None
    """Name of the module that gives the logits, where it is not recognised."""
    tune: str = "all"
    """What trains: all, head, last:N (stages before the head), norm, gradual:parts=4,until=0.5, or
    lora:rank=8,alpha=16,dropout=0,targets=qkv/proj (the head, and low-rank adapters beside layers; without targets
    all linear and convolutional ones; needs lessonplan[lora])."""
    head_lr: str = "1x"
    """Learning rate of the head, as a multiple ("10x") or a number."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the learning rate from one stage to the one before it."""
    decay_norms: bool | Literal["auto"] = "auto"
    """Weight decay on normalisations and biases too; "auto": not with weights from elsewhere."""
    batch_norm: Literal["auto", "train", "frozen", "sync"] = "auto"
    """Batch normalisation of what trains: "train" normalises by the batch (of several ranks each by its own part),
    "sync" by the batch of all ranks, "frozen" by the running statistics as they are, while scale and shift train;
    "auto": frozen with weights from elsewhere."""
    fit_head: Literal["train", "logreg", "ncm"] = "train"
    """How a head that alone is tuned is found: trained, or without training by logistic regression on features
    (its regularisation chosen on validation data) or from the nearest class mean."""
    features: Literal["auto", "cached", "off"] = "auto"
    """With tune=head, what comes before the head is computed once a picture and kept, unless something happens to
    pixels at every step; "cached" insists, "off" computes it every time. Mixes then mix features, and dropout
    before the head does nothing."""
    feature_views: Annotated[int, Field(ge=1)] = 1
    """Views of each training picture that are kept: the picture as it is, and augmented ones behind it."""
    feature_cache: str | None = None
    """Folder of kept features; None: lessonplan/features in the user's cache folder."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of every target that is spread over all classes."""
    mix_over: Literal["global", "rank"] = "global"
    """What is mixed where several ranks train: the "global" batch, so that the run is the same one whatever their
    number, or each "rank" its own part, which no other rank has to read."""
    grad_reduce: Literal["fp32", "bf16"] = "fp32"
    """Number format in which the ranks' gradients are averaged; bf16 halves what travels."""
    shard: bool = False
    """Leave each of several ranks its part of every parameter, gradient and optimizer state (PyTorch's FSDP2), for
    networks that do not fit on one device; a block's parameters come together while it runs."""
    device: str = "auto"
    """"auto": cuda where there is one, else cpu."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads; None leaves PyTorch's setting, but takes 1 on a busy machine and says so."""

    @property
    def update_rule(self) -> str:
        """The optimizer that is meant."""
        if self.optimizer != "auto":
            return self.optimizer
        return "sgd" if self.weights is None else "adamw"

    @property
    def linear_loss(self) -> bool:
        """Whether the loss is linear in the target; with smoothed labels it is not."""
        return self.loss in ("ce", "focal") and not self.label_smoothing

    @property
    def frozen_statistics(self) -> bool:
        """Whether all batch normalisation keeps its running statistics."""
        return self.batch_norm == "frozen" or (self.batch_norm == "auto" and self.weights is not None)

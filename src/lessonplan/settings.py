"""The settings of a training run: everything but model, data, plan and budget."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lessonplan.errors import ConfigError, unknown


class Settings(BaseModel):
    """How a network is trained; every field can be given to ``fit`` by name.

    The defaults are the thesis' (batch 100, lr .05, Nesterov momentum .9), but for the schedule, which ends
    with the budget, and a stronger weight decay, as is usual for small data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    batch_size: Annotated[int, Field(ge=1)] | Literal["auto", "all"] = "auto"
    """Samples drawn for an update; "auto": 100, or half of a smaller training set; "all": the whole set."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Update rule."""
    lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate; None: .05 for sgd, .001 for adam and adamw."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd."""
    nesterov: bool = True
    """Nesterov's form of the momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """L2 penalty (decoupled for adamw)."""
    schedule: str = "cosine"
    """Learning-rate schedule: constant, cosine, step, exponential or stagnation, with options after a colon."""
    loss: Literal["ce", "sum-bce"] = "ce"
    """Soft cross-entropy, or the thesis' binary cross-entropy divided by K."""
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
    watch: Literal["accuracy", "loss"] = "accuracy"
    """The validation metric that decides (cascades, keep=best)."""
    evaluate_every: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Epochs between validations; "auto": after as many sample passes as there are training samples."""
    evaluate_train: bool = False
    """At every validation and at the end judge the whole training set too; with a selection always."""
    checkpoint_every: str = "60s"
    """Time or steps between checkpoints: "60s", "10min", "500 steps"."""
    device: str = "auto"
    """"auto": cuda where there is one, else cpu."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads; None leaves PyTorch's setting."""

    @classmethod
    def make(cls, **given: Any) -> Settings:
        """Check settings; errors come as one sentence.

        >>> Settings.make(lr=-1)
        Traceback (most recent call last):
        ...
        lessonplan.errors.ConfigError: setting lr=-1: input should be greater than 0
        """
        for name in given:
            if name not in cls.model_fields:
                raise unknown("setting", name, cls.model_fields)
        try:
            return cls(**given)
        except ValidationError as error:
            raise explain(error) from None


def explain(error: ValidationError) -> ConfigError:
    """What a check of settings found, in one sentence: the setting, its value, what is allowed."""
    found = error.errors()
    name, value = str(found[0]["loc"][0]), found[0]["input"]
    reasons = {e["msg"][0].lower() + e["msg"][1:] for e in found if str(e["loc"][0]) == name}
    return ConfigError(f"setting {name}={value!r}: {' or '.join(sorted(reasons))}")

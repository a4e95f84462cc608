"""What defines a run: frozen, hashable, and refused when a key is unknown. The run's id is the hash of its canonical JSON."""

from dataclasses import asdict, dataclass, fields, replace

from mpox._core import MpoxError, hash_of

PRECISIONS = ("float32", "bfloat16")
HEADS = ("linear", "hidden")
DEVICES = ("cpu", "cuda")
AUGMENTATIONS = ("none", "light", "medium")
#: The regimes, and the version of the code behind each, raised by one whenever an unchanged configuration's predictions change.
ENGINES = {"linear_probe": 1, "nearest_neighbour": 1, "svm": 1, "tail_tune": 2, "fine_tune": 2, "scratch": 2}
#: Added to a regime's number on a GPU, where convolutions in single precision were TF32 once.
GPU_ENGINE = 1
REGIMES = tuple(ENGINES)
#: The regimes that start from transferred weights and keep ImageNet's batch-norm statistics.
TRANSFERRED = ("tail_tune", "fine_tune")
#: The regimes that train no network: they work on features that are computed once.
FROZEN = ("linear_probe", "nearest_neighbour", "svm")
#: Feature extractors that are no network; they go with the regimes `FROZEN` only.
HANDCRAFTED = ("colour_histogram", "hog", "lbp")
#: Input sizes of the study's usual backbones, as timm has them: to read a recorded run takes no timm.
INPUT_SIZES = {
    "tf_efficientnet_lite0": 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260, "tf_efficientnet_lite3": 300,
    "tf_efficientnet_lite4": 380, "mobilenetv3_large_100": 224, "resnet50": 224, "densenet121": 224, "convnext_tiny": 224,
    "vit_small_patch14_dinov2": 518,
}  # fmt: skip


def _from_dict(cls, values: dict):
    known = {field.name for field in fields(cls)}
    unknown = sorted(map(str, set(values) - known))
    if unknown:
        raise MpoxError(f"{cls.__name__} has no {', '.join(unknown)}: it takes {', '.join(sorted(known))}.")
    return cls(**values)


def _choose(config, **allowed: tuple[str, ...]) -> None:
    for name, values in allowed.items():
        if getattr(config, name) not in values:
            raise MpoxError(f"Unknown {name} '{getattr(config, name)}': choose one of {', '.join(values)}.")


@dataclass(frozen=True)
class Training:
    """How a network is trained by gradient descent (regimes ``tail_tune``, ``fine_tune`` and ``scratch``)."""

    epochs: int = 12  #: upper limit; early stopping on the inner validation fold may end before
    batch_size: int = 16
    learning_rate: float = 1e-3  #: peak rate of AdamW for the head
    backbone_rate: float = 0.3  #: rate of the last backbone stage relative to the head's
    stage_decay: float = 0.7  #: rate of a stage relative to the next one's
    frozen_stages: int = 0  #: first stages (the stem is one) that are not trained at all
    #: Full-batch steps in which only the head is trained, on frozen features, before the backbone is unfrozen.
    head_steps: int = 200
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    class_weights: bool = True  #: weigh the loss of a class by the inverse of its frequency in training
    augmentation: str = "light"  #: one of `AUGMENTATIONS`; see `mpox.models.batches.RECIPES`
    patience: int = 4  #: epochs without a lower validation loss before training stops
    precision: str = "float32"  #: or ``bfloat16``: automatic mixed precision
    views: int = 0  #: augmented views of an image that ``tail_tune`` keeps, beside the image and its mirror image

    def __post_init__(self):
        _choose(self, precision=PRECISIONS, augmentation=AUGMENTATIONS)
        counts = {"epochs": 1, "batch_size": 2, "patience": 1, "head_steps": 0, "frozen_stages": 0, "views": 0}
        for name, least in counts.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise MpoxError(f"{name} must be a whole number of at least {least}, not {value!r}.")
        for name in ("learning_rate", "backbone_rate", "stage_decay", "weight_decay", "label_smoothing"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or value < 0:
                raise MpoxError(f"{name} must be a number of at least 0, not {value!r}.")


#: What ``tail_tune`` adds to `Training` where nothing else is said: of what was tried, the cheapest that loses nothing against
#: ``fine_tune`` by the loss on the inner validation folds of MSLD v1 (chapter 5 shows the others).
TAIL = {"frozen_stages": 6, "views": 8}


@dataclass(frozen=True)
class ModelConfig:
    """A model and the way it is fitted; everything but the data."""

    regime: str = "linear_probe"  #: one of `REGIMES`
    backbone: str = "tf_efficientnet_lite1"  #: a timm model name, or one of `HANDCRAFTED`
    head: str = "linear"  #: one of `HEADS`
    weights: str = "imagenet"  #: or ``random``, or ``none`` for hand-crafted features
    image_size: int = 0  #: side in pixels; 0: that on which the weights were trained (224 for hand-crafted features)
    #: Show the fitted network every image and its mirror image, and average: the features of a probe, the probabilities of a
    #: trained network. A mirrored finding is the same finding.
    mirror: bool = True
    seed: int = 0  #: of everything random in the fit
    device: str = "cpu"  #: or ``cuda``
    #: Only for the regimes that train the network; made with its defaults where it is needed and not given. It may be a dict; for
    #: ``tail_tune`` `TAIL` fills in what that does not name.
    training: Training | None = None
    #: Only for the regimes `FROZEN`: the means of this many last feature maps, each half as wide as the one before, stand beside
    #: the pooled features.
    stages: int = 0

    def __post_init__(self):
        _choose(self, regime=REGIMES, device=DEVICES, head=HEADS)
        if self.regime == "tail_tune" and not isinstance(self.training, Training):
            object.__setattr__(self, "training", {**TAIL, **(self.training or {})})
        if isinstance(self.training, dict):
            object.__setattr__(self, "training", _from_dict(Training, self.training))
        if self.backbone in HANDCRAFTED:
            if self.regime not in FROZEN:
                raise MpoxError(f"{self.backbone} has nothing to train: use the regime {' or '.join(map(repr, FROZEN))}.")
            object.__setattr__(self, "weights", "none")
            object.__setattr__(self, "mirror", False)
        if self.regime == "scratch":
            object.__setattr__(self, "weights", "random")
        if self.regime in ("nearest_neighbour", "svm") and self.head != "linear":
            raise MpoxError(f"The regime '{self.regime}' has no head: leave 'head' at its default.")
        if self.regime in FROZEN:
            object.__setattr__(self, "training", None)
        elif self.training is None:
            object.__setattr__(self, "training", Training())
        if self.stages and (self.regime not in FROZEN or self.backbone in HANDCRAFTED):
            raise MpoxError("'stages' are the feature maps of a frozen network: leave it out.")
        if self.training and self.regime != "tail_tune" and self.training.views:
            raise MpoxError(f"'views' belongs to the regime 'tail_tune', not to '{self.regime}': leave it out.")
        if self.training and self.regime == "tail_tune" and not self.training.frozen_stages:
            raise MpoxError("tail_tune computes its frozen stages once: frozen_stages must be at least 1.")
        if not self.image_size:
            size = 224 if self.backbone in HANDCRAFTED else default_image_size(self.backbone)
            object.__setattr__(self, "image_size", size)

    @property
    def plan(self) -> Training:
        """How the network is trained; `MpoxError` for a regime that trains none."""
        if self.training is None:
            trained = ", ".join(regime for regime in REGIMES if regime not in FROZEN)
            raise MpoxError(f"The regime '{self.regime}' trains no network: choose one of {trained}.")
        return self.training

    def with_(self, **changes) -> "ModelConfig":
        """A copy with some fields changed.

        The input size follows the backbone unless it is named; what the old regime or backbone had forced is set free.
        """
        if self.backbone in HANDCRAFTED and "backbone" in changes:
            changes = {"weights": "imagenet", "mirror": True, **changes}
        if self.regime == "scratch" and "regime" in changes:
            changes = {"weights": "imagenet", **changes}
        if "backbone" in changes:
            changes.setdefault("image_size", 0)
        if "tail_tune" in (self.regime, changes.get("regime")) and changes.get("regime", self.regime) != self.regime:
            stages, views = TAIL.values() if changes["regime"] == "tail_tune" else (0, 0)
            changes.setdefault("training", self.training and replace(self.training, frozen_stages=stages, views=views))
        return replace(self, **changes)


def current_engine(model: ModelConfig) -> int:
    """The present version of the code behind a model's regime, on its device."""
    return ENGINES[model.regime] + (GPU_ENGINE if model.device == "cuda" else 0)


@dataclass(frozen=True)
class RunConfig:
    """One model fitted on one training set and asked about one test fold."""

    dataset: str  #: name of the data set
    data: str  #: hash of its manifest (`mpox.data.manifest.manifest_hash`)
    protocol: str  #: under which the run is kept: one of `mpox.protocols.splits.PROTOCOLS`, or the name of a study's own splits
    split: str  #: hash of this fold's rows of the split table (`mpox.protocols.splits.split_hash`)
    repeat: int
    fold: int
    model: ModelConfig
    engine: int = 0  #: version of the code behind the regime; 0: the present one (`current_engine`)

    def __post_init__(self):
        if not self.engine:
            object.__setattr__(self, "engine", current_engine(self.model))

    @property
    def id(self) -> str:
        """Sixteen hex digits: the hash of the configuration's canonical JSON."""
        return hash_of(self.to_dict())

    def to_dict(self) -> dict:
        """`dataclasses.asdict` without ``stages`` where it is 0, so that older runs keep their ids."""
        values = asdict(self)
        if not self.model.stages:
            del values["model"]["stages"]
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "RunConfig":
        """The inverse of `to_dict`; an unknown key is an error."""
        return _from_dict(cls, {**values, "model": _from_dict(ModelConfig, values["model"])})


def default_image_size(backbone: str) -> int:
    """Side in pixels of the images on which timm's weights of that name were trained."""
    return INPUT_SIZES.get(backbone) or int(pretrained_cfg(backbone)["input_size"][-1])


def normalisation(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel (on pixels from 0 to 1) that the backbone's weights expect."""
    cfg = pretrained_cfg(backbone)
    return tuple(cfg["mean"]), tuple(cfg["std"])


def pretrained_cfg(backbone: str) -> dict:
    """What timm knows of the weights of that name: ``input_size``, ``mean``, ``std``, ...; `MpoxError` for an unknown name."""
    import timm

    if not timm.is_model(backbone):
        raise MpoxError(f"timm has no model '{backbone}': see `timm.list_models()`.")
    found = timm.get_pretrained_cfg(backbone)
    if found is None:
        raise MpoxError(
            f"timm does not say what '{backbone}' was trained on: choose another of `timm.list_models(pretrained=True)`."
        )
    return found.to_dict()

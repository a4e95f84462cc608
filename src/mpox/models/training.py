"""Training a network by gradient descent."""

import itertools
import math
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from mpox._core import MpoxError
from mpox.data.pixels import load_pixels
from mpox.models.backbones import Classifier, build_model, fold_batch_norm, split_backbone
from mpox.models.batches import ActivationBatches, ImageBatches, activations
from mpox.models.config import TRANSFERRED, ModelConfig, normalisation
from mpox.models.hardware import torch_device

HEAD_RATE = 1e-2


def _stages(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """The backbone's parameters, first stage first: timm's ``blocks`` one by one, and what comes before and after them."""
    blocks = getattr(backbone, "blocks", None)
    if not isinstance(blocks, nn.Sequential):
        return [list(backbone.parameters())]
    stages = [list(block.parameters()) for block in blocks]
    inside = {id(parameter) for stage in stages for parameter in stage}
    names = [name for name, parameter in backbone.named_parameters() if id(parameter) not in inside]
    rest = dict(backbone.named_parameters())
    before = [rest[name] for name in names if "stem" in name or name.startswith("bn1")]
    after = [rest[name] for name in names if not ("stem" in name or name.startswith("bn1"))]
    return [stage for stage in (before, *stages, after) if stage]


def _optimizer(model: Classifier, config: ModelConfig) -> torch.optim.Optimizer:
    """AdamW with discriminative learning rates: the earlier a stage, the slower. From scratch all stages learn alike."""
    plan = config.plan
    groups: list[dict[str, Any]] = [{"params": list(model.head.parameters()), "scale": 1.0}]
    stages = _stages(model.backbone)
    for parameter in itertools.chain(*stages[: plan.frozen_stages]):
        parameter.requires_grad_(False)
    for depth, stage in enumerate(reversed(stages[plan.frozen_stages :])):
        scale = 1.0 if config.regime == "scratch" else plan.backbone_rate * plan.stage_decay**depth
        groups.append({"params": stage, "scale": scale})
    for group in groups:
        group["lr"] = plan.learning_rate * group["scale"]
    return torch.optim.AdamW(groups, weight_decay=plan.weight_decay, fused=True)


def _set_rate(optimizer: torch.optim.Optimizer, config: ModelConfig, progress: float) -> None:
    """Linear warm-up over the first tenth, then a half cosine to zero; ``progress`` runs from 0 to 1."""
    rate = progress / 0.1 if progress < 0.1 else 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))
    for group in optimizer.param_groups:
        group["lr"] = config.plan.learning_rate * group["scale"] * rate


def class_weights(y: np.ndarray, n_classes: int) -> torch.Tensor:
    """Inverse class frequencies with mean 1 over the training images, float32 of shape (n_classes,)."""
    counts = np.bincount(y, minlength=n_classes)
    return torch.tensor(len(y) / (n_classes * np.maximum(counts, 1)), dtype=torch.float32)


class Trainer:
    """One model on its way through the epochs.

    `batches` are of all images of the data set, `y` their class numbers (int64); `train` are the rows used for gradients, `valid`
    those of the inner validation fold. The test fold is in neither.
    """

    def __init__(self, config: ModelConfig, batches: ImageBatches | ActivationBatches, y, train, valid, *, n_classes: int):
        self.config, self.batches, self.device = config, batches, batches.device
        self.train_rows, self.valid_rows = train, valid
        self.y = torch.from_numpy(y).to(self.device)
        model = build_model(config.backbone, config.head, n_classes, weights=config.weights, seed=config.seed)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.trained = backbone = self.model.backbone  # what the batches go through before the head
        if config.regime == "tail_tune":
            side = (1, 3, config.image_size, config.image_size)
            example = torch.zeros(side, device=self.device).to(memory_format=torch.channels_last)
            _, self.trained = split_backbone(backbone.eval(), config.plan.frozen_stages, example)
        fold_batch_norm(self.trained, batches.plain(np.arange(1)))
        weight = class_weights(y[train], n_classes).to(self.device) if config.plan.class_weights else None
        self.loss = nn.CrossEntropyLoss(weight, label_smoothing=config.plan.label_smoothing)
        self.optimizer = _optimizer(self.model, config)

    def fit(self, *, report=lambda text: None) -> pd.DataFrame:
        """Train to the end, or to the early stop, and leave the best epoch's weights in ``model``.

        One row an epoch: ``epoch``, ``train_loss``, ``validation_loss``, ``validation_accuracy``, ``train_seconds`` (of the
        gradient steps), ``seconds``, ``chosen``.
        """
        plan = self.config.plan
        if self.config.regime in TRANSFERRED and plan.head_steps:
            self._fit_head()
        history: list[dict] = []
        best: dict[str, torch.Tensor] = {}
        chosen = 0
        for epoch in range(plan.epochs):
            row = self._epoch(epoch)
            if not math.isfinite(row["validation_loss"]):
                raise MpoxError(f"The validation loss of epoch {epoch} is not finite: lower the learning rate.")
            if not history or row["validation_loss"] < history[chosen]["validation_loss"]:
                chosen, best = epoch, {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            history.append(row)
            report(f"epoch {epoch + 1} of {plan.epochs}, validation loss {row['validation_loss']:.3f}")
            if epoch - chosen >= plan.patience:
                break
        self.model.load_state_dict(best)
        return pd.DataFrame(history).assign(chosen=lambda table: table["epoch"] == chosen)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Class probabilities, float64 of shape (len(rows), n_classes)."""
        return self._probabilities(rows).numpy()

    def _autocast(self):
        enabled = self.config.plan.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _logits(self, batch: torch.Tensor) -> torch.Tensor:
        return self.model.head(self.trained(batch))

    @torch.inference_mode()
    def _probabilities(self, rows: np.ndarray) -> torch.Tensor:
        self.model.eval()
        parts = []
        for start in range(0, len(rows), 32):
            shown = (False, True) if self.config.mirror else (False,)
            batches = [self.batches.plain(rows[start : start + 32], mirrored=mirrored) for mirrored in shown]
            with self._autocast():
                views = [self._logits(batch) for batch in batches]
            parts.append(torch.stack([torch.softmax(view.double(), dim=1) for view in views]).mean(0).cpu())
        return torch.cat(parts)

    def _fit_head(self) -> None:
        """Train the head alone on the frozen features of the unchanged images (after Kumar et al. 2022)."""
        self.model.eval()
        with torch.inference_mode():
            batches = [self.train_rows[start : start + 32] for start in range(0, len(self.train_rows), 32)]
            frozen = torch.cat([self.trained(self.batches.plain(rows)) for rows in batches])
        frozen, target = frozen.clone(), self.y[self.train_rows]
        head = self.model.head.train()
        optimizer = torch.optim.AdamW(head.parameters(), lr=HEAD_RATE, weight_decay=0.1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            for _ in range(self.config.plan.head_steps):
                optimizer.zero_grad()
                self.loss(head(frozen), target).backward()
                optimizer.step()

    def _epoch(self, epoch: int) -> dict:
        started = time.perf_counter()
        plan = self.config.plan
        rng = np.random.default_rng([self.config.seed, epoch])
        order = rng.permutation(self.train_rows)
        shown, target = self.batches.epoch(order, rng), self.y[torch.from_numpy(order).to(self.device)]
        starts = range(0, len(order), plan.batch_size)
        self.model.train()
        if self.config.regime in TRANSFERRED:  # batch-norm statistics stay ImageNet's: batches are small and few
            self.model.backbone.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)  # read once an epoch: reading makes a GPU wait
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.config.seed * 10_007 + epoch)
            for step, start in enumerate(starts):
                stop = min(start + plan.batch_size, len(order))
                if stop - start < 2 and len(order) > 1:
                    continue
                _set_rate(self.optimizer, self.config, (epoch + (step + 1) / len(starts)) / plan.epochs)
                batch = shown(start, stop)  # before autocast, which would draw the grid of places in half precision
                with self._autocast():
                    loss = self.loss(self._logits(batch), target[start:stop])
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()
                total += loss.detach() * (stop - start)
        train_loss, trained_s = float(total) / len(order), time.perf_counter() - started
        probabilities, truth = self._probabilities(self.valid_rows), self.y[self.valid_rows].cpu()
        return {
            "epoch": epoch,
            "train_loss": train_loss,
            "validation_loss": float(F.nll_loss(probabilities.clamp_min(1e-12).log(), truth)),
            "validation_accuracy": float((probabilities.argmax(1) == truth).double().mean()),
            "train_seconds": round(trained_s, 3),
            "seconds": round(time.perf_counter() - started, 3),
        }


def load_batches(manifest: pd.DataFrame, model: ModelConfig) -> ImageBatches | ActivationBatches:
    """The images of a manifest as a regime wants them: `Trainer`'s ``batches``."""
    device = torch_device(model.device)
    if model.regime == "tail_tune":
        return ActivationBatches(activations(manifest, model), device)
    mean, std = normalisation(model.backbone)
    pixels = load_pixels(manifest, model.image_size)
    return ImageBatches(pixels, mean=mean, std=std, recipe=model.plan.augmentation, device=device)

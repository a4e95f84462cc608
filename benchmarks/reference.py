"""The naive reference: a network trained as tutorials do it, picture by picture through PIL, everything fine-tuned."""

import time

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mpox.data.dataset import Dataset as MpoxDataset
from mpox.models.backbones import load_pretrained, normalisation

RATE, DECAY, SMOOTHING, BATCH = 3e-4, 0.02, 0.05, 16


class _Pictures(Dataset):
    def __init__(self, paths, y, transform):
        self.paths, self.y, self.transform = paths, y, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int):
        with Image.open(self.paths[row]) as picture:
            return self.transform(picture.convert("RGB")), self.y[row]


def _transforms(backbone: str, size: int, training: bool) -> transforms.Compose:
    mean, std = normalisation(backbone)
    changes = (
        [transforms.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.8, 1.25)), transforms.RandomHorizontalFlip()]
        if training
        else [transforms.Resize((size, size))]
    )
    return transforms.Compose([*changes, transforms.ToTensor(), transforms.Normalize(mean, std)])


class _Reference:
    def __init__(self, data: MpoxDataset, backbone: str, size: int, workers: int, device: str):
        self.data, self.backbone, self.size, self.workers = data, backbone, size, workers
        self.device = torch.device(device)
        self.y = pd.Categorical(data.manifest["label"], categories=data.classes).codes.astype(np.int64)
        self.paths = data.manifest["path"].to_numpy()

    def loader(self, rows: np.ndarray, training: bool) -> DataLoader:
        pictures = _Pictures(self.paths[rows], self.y[rows], _transforms(self.backbone, self.size, training))
        return DataLoader(
            pictures, batch_size=BATCH, shuffle=training, num_workers=self.workers, pin_memory=self.device.type == "cuda",
            persistent_workers=self.workers > 0,
        )  # fmt: skip

    def model(self) -> nn.Module:
        model = timm.create_model(self.backbone, pretrained=False)
        model.load_state_dict(load_pretrained(self.backbone).state)
        model.reset_classifier(len(self.data.classes))
        memory = torch.channels_last if self.device.type == "cuda" else torch.contiguous_format
        return model.to(self.device, memory_format=memory)

    def autocast(self):
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda")

    @torch.inference_mode()
    def probabilities(self, model: nn.Module, loader: DataLoader) -> np.ndarray:
        model.eval()
        parts = []
        for batch, _ in loader:
            with self.autocast():
                parts.append(torch.softmax(model(batch.to(self.device)).double(), dim=1).cpu())
        return torch.cat(parts).numpy()

    def fold(self, train: np.ndarray, valid: np.ndarray, test: np.ndarray, epochs: int, seed: int) -> tuple[np.ndarray, float]:
        """Probabilities of the test pictures after the best of the epochs, and the seconds of the gradient steps."""
        torch.manual_seed(seed)
        model, loader, check = self.model(), self.loader(train, True), self.loader(valid, False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, epochs=epochs, steps_per_epoch=len(loader), pct_start=0.1)
        loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
        lowest, best, seconds = np.inf, None, 0.0
        for _ in range(epochs):
            started = time.perf_counter()
            model.train()
            for batch, target in loader:
                with self.autocast():
                    loss = loss_of(model(batch.to(self.device)), target.to(self.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                loss.item()
            seconds += time.perf_counter() - started
            truth = self.probabilities(model, check)[np.arange(len(valid)), self.y[valid]]
            if (now := -np.log(np.maximum(truth, 1e-12)).mean()) < lowest:
                lowest, best = now, {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(best)
        return self.probabilities(model, self.loader(test, False)), seconds


def cross_validate_naively(
    data: MpoxDataset, split: pd.DataFrame, *, backbone: str, size: int, epochs: int, workers: int, device: str
) -> tuple[pd.DataFrame, dict]:
    """Train one network a fold of the split table; the inner fold 0 chooses the epoch, as in `mpox.models.training.Trainer`.

    Returns
    -------
    predictions : DataFrame
        ``repeat``, ``fold``, ``image_id``, ``group_id``, ``label``, ``p_<class>``.
    cost : dict
        ``train_images`` (summed over the epochs), ``train_s``.
    """
    reference = _Reference(data, backbone, size, workers, device)
    tables, images, train_s = [], 0, 0.0
    for (repeat, fold), rows in split.groupby(["repeat", "fold"]):
        rows = rows.set_index("image_id").reindex(data.manifest["image_id"])
        train = np.flatnonzero((rows["role"] == "train") & (rows["inner_fold"] != 0))
        valid = np.flatnonzero((rows["role"] == "train") & (rows["inner_fold"] == 0))
        test = np.flatnonzero(rows["role"] == "test")
        probabilities, seconds = reference.fold(train, valid, test, epochs, seed=0)
        table = data.manifest.iloc[test][["image_id", "label"]].assign(repeat=repeat, fold=fold).reset_index(drop=True)
        table[[f"p_{label}" for label in data.classes]] = probabilities
        tables.append(table)
        images, train_s = images + len(train) * epochs, train_s + seconds
    predictions = pd.concat(tables, ignore_index=True)
    predictions["group_id"] = predictions["image_id"].map(data.groups)
    return predictions, {"train_images": images, "train_s": train_s}

"""Training of a head: steps, evaluations, early stopping, and the state from which a stopped run resumes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from gpubranches.core.arrays import unit
from gpubranches.encoders.heads import losses
from gpubranches.encoders.heads.decoder import Progress, fit_decoder
from gpubranches.encoders.heads.linear import PCAHead
from gpubranches.encoders.heads.network import build_tower, forward, learning_rate_factor, rounded_to_codes, to_numpy
from gpubranches.encoders.heads.settings import HeadSettings
from gpubranches.encoders.heads.text_memory import TEMPERATURE, fit_text_memory
from gpubranches.encoders.heads.towers import TextTower, TrainedHead
from gpubranches.encoders.heads.training_data import TrainingData
from gpubranches.errors import BackendUnavailableError, DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

EVALUATIONS = 20
"""Evaluations during a run."""
PCA_ROWS = 100_000
"""The largest number of rows that the initial PCA is fitted to."""
_TEXTS_A_STEP = 256
_SHUFFLE, _TEXTS, _ROUNDING = 1, 2, 3

Keep = Callable[[bytes], object]


@dataclass
class TrainingReport:
    """The record of a training.

    recalls: (epoch, held-out recall) of every evaluation, the first for the initial PCA; loss: mean of the last epoch;
    best_epoch: the epoch whose weights were kept; decoded: mean cosine of held-out embeddings with those decoded from
    their codes; seconds: wall-clock time of this run; device.
    """

    recalls: list[tuple[int, float]] = field(default_factory=list)
    loss: float = math.nan
    best_epoch: int = 0
    decoded: float = math.nan
    seconds: float = 0.0
    device: str = "cpu"

    @property
    def best(self) -> float:
        """The recall of the weights that were kept."""
        return max((recall for epoch, recall in self.recalls if epoch), default=-1.0)


def train(
    examples: TrainingData,
    settings: HeadSettings,
    *,
    device: str = "auto",
    state: bytes | None = None,
    keep: Keep | None = None,
    progress: Progress | None = None,
) -> tuple[TrainedHead, TrainingReport]:
    """Train the two towers; return the head with the best held-out recall, and a report.

    device: "auto", "cpu" or "cuda". keep: called with the state of the training after every evaluation; state: such a
    state, from which the run resumes with the same steps as without the stop. Without pairs the image tower learns to
    rank its batch as the embeddings do, and the text tower is a `TextMemory`; with pairs both towers are trained
    contrastively, as in CLIP-Branches (arXiv 2406.13322, section 3.1). The decoder is fitted to the image tower that is
    kept, see `fit_decoder`. Raises UsageError or DataError for data that cannot be trained on, BackendUnavailableError
    without the device.
    """
    run = _TrainingRun(examples, settings, device)
    if state is not None:
        run.resume(state)
    began = time.perf_counter()
    while not run.done:
        run.epoch()
        if progress is not None:
            progress("training", run.epochs_done, settings.epochs)
        if run.epochs_done % run.every == 0 or run.epochs_done == settings.epochs:
            run.evaluate()
            if keep is not None:
                keep(run.state())
    head = run.head(progress)
    run.training.seconds = time.perf_counter() - began
    return head, run.training


class _TrainingRun:
    """The towers, the optimiser and the progress of a run."""

    def __init__(self, examples: TrainingData, settings: HeadSettings, device: str):
        import torch

        self.examples, self.settings = examples, settings
        self.device = _device(device)
        self.training = TrainingReport(device=self.device)
        self.epochs_done, self._stale = 0, 0
        self.every = max(1, settings.epochs // EVALUATIONS)
        self.steps_an_epoch = len(examples.fit) // settings.batch
        if not self.steps_an_epoch:
            raise UsageError(
                f"batch: expected at most the {len(examples.fit):,} training rows, got "
                f"{settings.batch:,}; use a smaller batch, or more rows"
            )
        components = (
            PCAHead(settings.d).fit(examples.centred(examples.fit[:: -(-len(examples.fit) // PCA_ROWS)])).components_
        )
        if len(components) != settings.d:
            raise UsageError(f"d: expected at most {len(components)} for {examples.D} dims, got {settings.d}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.towers = torch.nn.ModuleDict({"images": build_tower(settings, components)})
            if examples.pairs is not None:
                self.towers["texts"] = build_tower(settings, components)
        self.towers["scale"] = torch.nn.ParameterDict(
            {name: torch.tensor(-math.log(start)) for name, start in self._temperatures().items()}
        )
        self.towers.to(self.device)
        decayed = [p for name, p in self.towers.named_parameters() if not name.startswith("scale")]
        free = [p for name, p in self.towers.named_parameters() if name.startswith("scale")]
        groups = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.best: dict[str, Tensor] = {}
        self.training.recalls.append((0, examples.recall(unit(examples.centred(examples.judged) @ components.T))))

    def _temperatures(self) -> dict[str, float]:
        if self.examples.pairs is not None:
            return {"pairs": 0.07}
        return {"images": self.settings.temperature, "texts": self.settings.text_temperature}

    @property
    def done(self) -> bool:
        """Whether all epochs are over, or the held-out recall has stopped growing."""
        return self.epochs_done >= self.settings.epochs or self._stale >= self.settings.patience

    def epoch(self) -> None:
        """Train on all rows once, in a random order that seed and epoch determine."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, _SHUFFLE, self.epochs_done])
        order = rng.permutation(self.examples.fit)
        self.towers.train()
        total = 0.0
        for number in range(self.steps_an_epoch):
            step = self.epochs_done * self.steps_an_epoch + number
            share = learning_rate_factor(step, settings.epochs * self.steps_an_epoch)
            for group in self.optimiser.param_groups:
                group["lr"] = settings.learning_rate * share
            self.optimiser.zero_grad()
            loss = self._loss(order[number * settings.batch : (number + 1) * settings.batch], step)
            loss.backward()
            self.optimiser.step()
            total += float(loss.detach())
        self.epochs_done += 1
        self.training.loss = total / self.steps_an_epoch
        if not math.isfinite(self.training.loss):
            raise DataError(f"training: the loss became {self.training.loss}; lower the learning rate")

    def _loss(self, rows: NDArray[np.int64], step: int) -> Tensor:
        import torch

        settings, examples = self.settings, self.examples
        generator = torch.Generator(self.device).manual_seed(settings.seed * 1_000_003 + step)
        images = self._tensor(examples.centred(rows))
        plain = self._vectors("images", images)
        vectors = rounded_to_codes(plain, settings.rounding, generator)
        if examples.pairs is not None:
            texts = self._vectors("texts", self._tensor(examples.paired(rows)))
            loss = losses.contrastive(
                vectors, rounded_to_codes(texts, settings.rounding, generator), self._scale("pairs")
            )
            spread = (losses.koleo(plain) + losses.koleo(texts)) / 2 if settings.koleo else 0.0
            return loss + settings.koleo * spread
        loss = losses.distillation(
            vectors,
            vectors,
            images @ images.T,
            scale=self._scale("images"),
            temperature=settings.temperature,
            own=True,
        )
        if examples.texts is not None and settings.text_weight:
            loss = loss + settings.text_weight * self._text_loss(images, plain, vectors, step)
        return loss + settings.koleo * losses.koleo(plain) if settings.koleo else loss

    def _text_loss(self, images: Tensor, plain: Tensor, vectors: Tensor, step: int) -> Tensor:
        """Return the loss of ranking half of the batch by texts, whose vectors come from the other half as a memory."""
        import torch

        texts = self._tensor(self.examples.mixed_texts(_TEXTS_A_STEP, [self.settings.seed, _TEXTS, step]))
        half = len(images) // 2
        near = torch.softmax(texts @ images[:half].T / TEMPERATURE, dim=1)
        remembered = torch.nn.functional.normalize(near @ plain[:half], dim=1)
        return losses.distillation(
            remembered,
            vectors[half:],
            texts @ images[half:].T,
            scale=self._scale("texts"),
            temperature=self.settings.text_temperature,
        )

    def _vectors(self, tower: str, rows: Tensor) -> Tensor:
        import torch

        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device != "cpu"):
            vectors = forward(self.towers[tower], rows)
        return vectors

    def _scale(self, name: str) -> Tensor:
        scale: Tensor = self.towers["scale"][name].exp()
        return scale

    def _tensor(self, rows: NDArray[np.float32]) -> Tensor:
        import torch

        return torch.from_numpy(rows).to(self.device)

    def evaluate(self) -> None:
        """Measure the held-out recall, and keep the weights if it is the best so far."""
        tower = to_numpy(self.towers["images"])
        recall = self.examples.recall(tower(self.examples.centred(self.examples.judged)))
        better = recall > self.training.best
        self.training.recalls.append((self.epochs_done, recall))
        self._stale = 0 if better else self._stale + 1
        if better:
            self.training.best_epoch = self.epochs_done
            self.best = {name: tensor.detach().clone() for name, tensor in self.towers.state_dict().items()}

    def head(self, progress: Progress | None = None) -> TrainedHead:
        """Return the head of the best weights, with a decoder of its codes."""
        examples = self.examples
        self.towers.load_state_dict(self.best)
        images = to_numpy(self.towers["images"])
        texts: TextTower | None = None
        if examples.pairs is not None:
            texts = to_numpy(self.towers["texts"])
        elif examples.text_mean is not None:
            texts = fit_text_memory(examples, images)
        decoder, self.training.decoded = fit_decoder(
            examples, images, self.settings, device=self.device, progress=progress
        )
        config = {"settings": self.settings.to_json(), "rows": len(examples.fit), "epoch": self.training.best_epoch}
        return TrainedHead(
            images,
            examples.mean,
            texts=texts,
            text_mean=examples.text_mean,
            decoder=decoder,
            config=config | {"recall": round(self.training.best, 4), "names": examples.names},
            embedder=examples.embedder,
        )

    def state(self) -> bytes:
        """Return the state from which a run can resume, as safetensors."""
        from safetensors.torch import save

        named = {f"towers.{name}": tensor for name, tensor in self.towers.state_dict().items()}
        named |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            named |= {f"optimiser.{number}.{name}": tensor for name, tensor in moments.items()}
        about = {
            "run": self._identity(),
            "epochs_done": self.epochs_done,
            "stale": self._stale,
            "best_epoch": self.training.best_epoch,
            "loss": self.training.loss,
            "recalls": self.training.recalls,
        }
        content: bytes = save(
            {n: t.detach().cpu().contiguous() for n, t in named.items()}, {"state": json.dumps(about)}
        )
        return content

    def resume(self, state: bytes) -> None:
        """Load a state. Raises UsageError if it is of another run, or damaged."""
        from safetensors.torch import load

        try:
            named = load(state)
            about = json.loads(json.loads(state[8 : 8 + int.from_bytes(state[:8], "little")])["__metadata__"]["state"])
        except (SafetensorError, ValueError, KeyError) as error:
            raise UsageError(
                f"checkpoint: expected the state of a training, got a problem: {error}; remove it"
            ) from error
        if about["run"] != self._identity():
            raise UsageError(
                "checkpoint: it belongs to a training with other settings or rows; remove it, or use the same"
            )
        self.towers.load_state_dict(_under("towers.", named))
        self.best = {name: tensor.to(self.device) for name, tensor in _under("best.", named).items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("optimiser.", named).items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = tensor
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        self.epochs_done, self._stale = about["epochs_done"], about["stale"]
        self.training.best_epoch, self.training.loss = about["best_epoch"], about["loss"]
        self.training.recalls = [(int(epoch), float(recall)) for epoch, recall in about["recalls"]]

    def _identity(self) -> list[Any]:
        return [self.settings.to_json(), self.examples.identity]


def _under(prefix: str, named: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in named.items() if name.startswith(prefix)}


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device: expected auto, cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError("device: torch sees no CUDA device here; use --device cpu")
    return device

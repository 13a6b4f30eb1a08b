"""The settings of the training of a head, which are stored with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from gpubranches.errors import UsageError

Variant = Literal["residual", "mlp", "linear"]
Rounding = Literal["none", "noise", "straight-through"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)


@dataclass(frozen=True)
class HeadSettings:
    """The settings of a training.

    d: code dims, a multiple of 4. variant: "residual" (an MLP with a skip connection that starts as the PCA), "mlp"
    (that of the paper) or "linear". hidden: widths of the hidden layers, each with batch normalisation and ReLU.
    koleo: weight of the KoLeo term. text_weight: weight of the ranking by texts relative to that by images. epochs,
    batch, learning_rate, weight_decay: of AdamW with a warm-up and a cosine decay. temperature, text_temperature: of
    the similarities whose ranking the head keeps. rounding: how the training simulates 8-bit codes: not at all, by
    uniform noise of the width of a code, or by a straight-through estimator. patience: evaluations without a gain after
    which training stops. seed: of everything that is drawn.
    """

    d: int = 32
    variant: Variant = "residual"
    hidden: tuple[int, ...] = (1024, 1024)
    koleo: float = 0.02
    text_weight: float = 0.01
    epochs: int = 40
    batch: int = 2048
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    temperature: float = 0.04
    text_temperature: float = 0.03
    rounding: Rounding = "none"
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.d % 4 or not 4 <= self.d <= 1024:
            raise UsageError(f"d: expected a multiple of 4 from 4 to 1,024, got {self.d}")
        for name, allowed in (("variant", VARIANTS), ("rounding", ROUNDINGS)):
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        if self.variant != "linear" and (not self.hidden or min(self.hidden) < 1):
            raise UsageError(f"hidden: expected widths of 1 and more, got {self.hidden}")
        for name, least in (("epochs", 1), ("batch", 2), ("patience", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        for name in ("koleo", "text_weight", "weight_decay"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected a number of 0 and more, got {getattr(self, name)}")
        for name in ("learning_rate", "temperature", "text_temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name}: expected a number above 0, got {getattr(self, name)}")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON."""
        return asdict(self) | {"hidden": list(self.hidden)}

"""The towers as torch modules, while they are trained."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.encoders.heads.settings import HeadSettings, Rounding
from gpubranches.encoders.heads.towers import Tower

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import Module

_CODE_STEP = 1 / 127.5
_WARM_UP = 0.05


def build_tower(settings: HeadSettings, components: NDArray[np.float32]) -> Module:
    """Return a tower of modules `skip` and `layers`; weights are drawn from torch's generator.

    components: (d, D) float32, where the linear way starts.
    """
    import torch
    from torch import nn

    d, D = components.shape
    parts: dict[str, Module] = {}
    if settings.variant != "mlp":
        parts["skip"] = nn.Linear(D, d, bias=False)
        with torch.no_grad():
            parts["skip"].weight.copy_(torch.from_numpy(components))
    if settings.variant != "linear":
        widths = [D, *settings.hidden]
        layers: list[Module] = []
        for wide, narrow in itertools.pairwise(widths):
            layers += [nn.Linear(wide, narrow), nn.BatchNorm1d(narrow), nn.ReLU()]
        last = nn.Linear(widths[-1], d)
        if settings.variant == "residual":
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        parts["layers"] = nn.Sequential(*layers, last)
    return nn.ModuleDict(parts)


def forward(tower: Any, rows: Tensor) -> Tensor:
    """Return unit vectors, (n, d), of centred unit embeddings, (n, D): what `Tower` computes."""
    from torch.nn.functional import normalize

    out: Any = 0
    if "skip" in tower:
        out = tower["skip"](rows)
    if "layers" in tower:
        out = out + tower["layers"](rows * _input_scale(rows.shape[1]))
    return normalize(out.float(), dim=1)


def rounded_to_codes(vectors: Tensor, rounding: Rounding, generator: Generator) -> Tensor:
    """Return vectors as 8-bit codes would have them: with noise of a code's width, or rounded straight through."""
    import torch
    from torch.nn.functional import normalize

    if rounding == "noise":
        noise = torch.rand(vectors.shape, generator=generator, device=vectors.device) - 0.5
        return normalize(vectors + noise * _CODE_STEP, dim=1)
    if rounding == "straight-through":
        codes = torch.clip(torch.floor(vectors / _CODE_STEP + 128), 0, 255)
        return vectors + ((codes - 127.5) * _CODE_STEP - vectors).detach()
    return vectors


def to_numpy(tower: Any) -> Tower:
    """Return a tower in NumPy, batch normalisation folded into the layer before it."""
    import torch
    from torch import nn

    def array(tensor: Any) -> NDArray[np.float32]:
        plain: NDArray[np.float32] = tensor.detach().cpu().double().numpy()
        return plain

    skip = np.ascontiguousarray(array(tower["skip"].weight), np.float32) if "skip" in tower else None
    layers: list[tuple[Any, Any]] = []
    for module in dict(tower).get("layers", ()):
        if isinstance(module, nn.Linear):
            scale = 1.0 if layers else _input_scale(module.weight.shape[1])
            layers.append((array(module.weight) * scale, array(module.bias)))
        elif isinstance(module, nn.BatchNorm1d):
            with torch.no_grad():
                gain = array(module.weight) / np.sqrt(array(module.running_var) + module.eps)
            weights, bias = layers[-1]
            layers[-1] = (weights * gain[:, None], (bias - array(module.running_mean)) * gain + array(module.bias))
    return Tower(skip, tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in layers))


def learning_rate_factor(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step of some: a linear warm-up, then half a cosine."""
    warm = max(1, int(_WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _input_scale(D: int) -> float:
    """Return what makes the entries of a unit vector of D dims of about size 1, as initial weights expect."""
    return math.sqrt(D)

"""A workaround that makes torchvision importable if its compiled extension does not fit the installed torch.

torchvision from PyPI is built for the CUDA build of torch. With a CPU build its extension does not load. The import of
torchvision, and with it that of open_clip, then fails, because torchvision registers Python kernels for operators that
were never declared ("operator torchvision::nms does not exist"). It is enough to declare the names of these operators,
because open_clip uses only torchvision's transforms.
"""

from __future__ import annotations

from typing import Any

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_library: Any = None


def declare_torchvision_ops() -> None:
    """Declare the operators that torchvision needs at import, unless its extension has declared them."""
    global _library  # noqa: PLW0603 - the declarations last as long as the library object
    if _library is not None:
        return
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        name = operator.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            library.define(operator)
    _library = library

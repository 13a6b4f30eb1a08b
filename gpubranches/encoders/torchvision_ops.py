"""A work-around that lets torchvision be imported with a torch that its compiled extension does not fit.

torchvision from PyPI is built for the CUDA build of torch. With a CPU build its extension does not load. The import of
torchvision, and with it that of open_clip, then fails when Python kernels are registered for operators that were never
declared ("operator torchvision::nms does not exist"). It suffices to declare their names, because open_clip uses only
torchvision's transforms.
"""

from __future__ import annotations

from typing import Any

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_library: Any = None


def declare_torchvision_ops() -> None:
    """Declare the operators that torchvision needs at import, if its extension did not declare them."""
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

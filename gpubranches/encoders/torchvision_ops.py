"""Let torchvision be imported beside a torch its compiled half does not fit.

torchvision from PyPI is built for the CUDA build of torch. Beside a CPU build its compiled half does not load, and
importing it then fails when it registers Python kernels for operators that were never declared ("operator
torchvision::nms does not exist"), which takes open_clip down with it. Declaring the names is enough: open_clip uses
torchvision's transforms, none of these operators.
"""

from __future__ import annotations

from typing import Any

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_library: Any = None


def declare_torchvision_ops() -> None:
    """Declare the operators torchvision needs while it is imported, where its compiled half is missing."""
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

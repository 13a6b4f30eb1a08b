"""Options of a find all are checked before anything is computed."""

import numpy as np
import pytest

from gpubranches import RefineOptions
from gpubranches.core.options import check_lean
from gpubranches.errors import UsageError


@pytest.mark.parametrize("value", [-1, 10**7, "a", None, 3.5, [1], float("nan")])
def test_a_count_of_random_negatives_that_is_none_is_refused(value):
    with pytest.raises(UsageError, match=r"random_negatives: expected 0 to 1,000,000, got "):
        RefineOptions(random_negatives=value).validate()


@pytest.mark.parametrize("value", [0, 1e9, "a", None, [1], float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(value):
    with pytest.raises(UsageError, match=r"negative_weight: expected 0\.1 to 1000, got .*; 10 is the default"):
        RefineOptions(negative_weight=value).validate()


@pytest.mark.parametrize("value", [1.01, "a", None, [0], float("nan")])
def test_a_lean_that_is_none_is_refused(value):
    with pytest.raises(UsageError, match=r"lean: expected -1 \(precision\) to 1 \(recall\), got "):
        check_lean(value)


@pytest.mark.parametrize("value", ["oak", None, 3, ["ensemble"]])
def test_a_model_that_is_none_is_refused(value):
    with pytest.raises(UsageError, match=r"model: expected one of ensemble, "):
        RefineOptions(model=value).validate()


def test_numbers_of_numpy_are_numbers():
    options = RefineOptions(random_negatives=np.int64(5), negative_weight=np.float32(2), lean=np.float64(0.123))
    assert options.validate().lean == 0.12


@pytest.mark.parametrize(("name", "value"), [("where", 3), ("where", b"x"), ("query", 3), ("second_stage", "yes")])
def test_another_type_is_refused(name, value):
    with pytest.raises(UsageError, match=f"{name}: expected "):
        RefineOptions(**{name: value}).validate()

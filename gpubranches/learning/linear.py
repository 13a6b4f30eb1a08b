"""Logistic regression for some thousand rows: one Newton fit, and refits on folds that reuse its factorisation.

At the usual sizes it is faster than scikit-learn's solvers, and it gives leave-one-out scores without further fits.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import check_array
from gpubranches.core.threads import one_thread
from gpubranches.errors import ArrayError, NotFittedError

Floats = NDArray[np.float64]

_MAX_INNER = 60
_ACCURACY = 1e-3
"""The reduction of the residual's energy at which an inner solve ends; the next Newton step corrects the rest."""
_LEAST_CURVATURE, _LEAST_LEFT = 1e-9, 1e-3
"""The least curvature of the intercept, which has no penalty, and the least share of curvature without one row."""
_SERVES = 4
"""The number of inner iterations from which factorising again is cheaper than using an old factor."""


class LogisticRegression:
    """L2-regularised, class-balanced logistic regression, solved by Newton steps.

    The model is scikit-learn's LogisticRegression(C=C, class_weight="balanced"). It minimises |w|^2 / 2 + C sum_i v_i
    log(1 + exp(-t_i (<w, x_i> + b))), t_i = +-1, v_i = m / (2 m_class); the intercept b is not penalised. C: inverse
    strength of the penalty; balanced: False gives v_i = 1; tol: largest entry of the gradient at the solution,
    relative to C m; max_iter: Newton steps. After `fit`: coef_ (D,) float64, intercept_ float, n_iter_ int,
    held_out_ (m,) float64, left_out_ (left_out,) float64.

    Gradients and solutions are float64, and all work runs in one thread, so the number of cores does not change a bit.
    """

    def __init__(self, *, C: float = 10.0, balanced: bool = True, tol: float = 1e-8, max_iter: int = 100):
        self.C = C
        self.balanced = balanced
        self.tol = tol
        self.max_iter = max_iter

    def fit(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        *,
        sample_weight: NDArray[np.float64] | None = None,
        folds: NDArray[np.int64] | None = None,
        left_out: int = 0,
    ) -> Self:
        """Fit rows x, (m, D) float32 or float64, to y, (m,) bool or of two signs (> 0: positive). Returns self.

        sample_weight: (m,) float64 > 0, the weight of each row within its class; the classes stay balanced.

        folds: (m,) int64, the fold that leaves each row out, -1 for rows in every training set. With it the model is
        fitted again without each fold, with balanced weights of its own, and held_out_[i] is the score of row i by the
        model that did not see it (NaN if its fold is -1). The refits start from the full fit, are solved as columns of
        one system, and use its factorised Hessian as preconditioner. Raises ArrayError if a training set has one class
        only.

        left_out: the number of first rows that get a score in left_out_, each by a model without that row: one Newton
        step from the full fit (Pregibon, Logistic Regression Diagnostics, Annals of Statistics 1981, for the penalised
        fit; Rad and Maleki, A scalable estimate of the out-of-sample prediction error via approximate leave-one-out
        cross-validation, JRSS B 2020).
        """
        rows, positive = _checked(x, y, folds)
        own = _checked_weights(sample_weight, len(rows))
        folds = np.full(len(rows), -1, np.int64) if folds is None else folds
        kept = _kept_columns(folds, positive)
        weights = self.C * np.stack([_row_weights(positive, own * k, self.balanced) for k in kept], axis=1)
        targets = positive[:, None].astype(np.float64)
        with one_thread():
            basis = None
            if rows.shape[0] < rows.shape[1]:
                basis, triangle = np.linalg.qr(rows.T)
                rows = np.ascontiguousarray(triangle.T)
            bounds = self.tol * self.C * len(rows)
            fit = _Newton(rows, targets, bounds, self.max_iter)
            full = fit.direct(weights[:, :1])
            coefficients = full[:-1, 0] if basis is None else basis @ full[:-1, 0]
            self.left_out_ = fit.left_out(weights[:, 0], full, left_out)
            self.held_out_ = np.full(len(rows), np.nan)
            if len(kept) > 1:
                refits = fit.preconditioned(weights[:, 1:], full)
                self.held_out_ = _by_own_fold(rows @ refits[:-1] + refits[-1], folds)
        self.coef_: Floats = coefficients
        self.intercept_ = float(full[-1, 0])
        self.n_iter_ = fit.steps
        return self

    def decision_function(self, x: NDArray[Any]) -> Floats:
        """Return the scores <w, x> + b, (m,) float64, of rows x, (m, D)."""
        if not hasattr(self, "coef_"):
            raise NotFittedError("LogisticRegression: call fit before decision_function")
        scores: Floats = x.astype(np.float64) @ self.coef_ + self.intercept_
        return scores


def folds_of(p: int, m: int, n_folds: int) -> NDArray[np.int64]:
    """Return the fold of p positives and m negatives, (p + m,) int64: each fold has both; -1 for a class of one row."""
    count = min(n_folds, max(p, 2))
    right = np.arange(p) % count if p > 1 else np.full(p, -1)
    wrong = np.arange(m) % count if m > 1 else np.full(m, -1)
    return np.concatenate([right, wrong]).astype(np.int64)


def _by_own_fold(scores: Floats, folds: NDArray[np.int64]) -> Floats:
    """Return the score of each row in the column of its fold, (n,) float64; NaN if its fold is -1.

    scores: (n, m), a column for each of the m folds in ascending order; folds: (n,).
    """
    own, rows = np.full(len(folds), np.nan), np.flatnonzero(folds >= 0)
    own[rows] = scores[rows, np.searchsorted(np.unique(folds[rows]), folds[rows])]
    return own


class _Newton:
    """Newton's method for rows, (m, r) float64, with several columns of row weights; parameters: (r + 1, columns)."""

    def __init__(self, rows: Floats, targets: Floats, bound: float, max_iter: int):
        self.rows = rows
        self.targets = targets
        self.bound = bound
        self.max_iter = max_iter
        self.steps = 0

    def direct(self, weights: Floats) -> Floats:
        """Solve one column from zero.

        The factor of the Hessian is kept, and computed again when it no longer gives good steps.
        """
        theta = np.zeros((self.rows.shape[1] + 1, 1))
        scores = np.zeros_like(weights)
        inner = _SERVES
        for step_number in range(self.max_iter):
            gradient, curvature = self._derivatives(theta, scores, weights)
            if step_number and np.abs(gradient).max() <= self.bound:
                break
            if step_number < 2 or inner >= _SERVES:
                self.factor = _factorised(self.rows, curvature[:, 0])
                step, inner = _solved(self.factor, gradient), 0
            else:
                step, inner = self._conjugate(curvature, gradient)
            self._advance(theta, scores, weights, step, gradient)
        return theta

    def preconditioned(self, weights: Floats, start: Floats) -> Floats:
        """Solve all columns from `start` with the factor that `direct` kept."""
        theta = np.repeat(start, weights.shape[1], axis=1)
        scores = self._scores(theta)
        for _ in range(self.max_iter):
            gradient, curvature = self._derivatives(theta, scores, weights)
            if np.abs(gradient).max() <= self.bound:
                break
            self._advance(theta, scores, weights, self._conjugate(curvature, gradient)[0], gradient)
        return theta

    def left_out(self, weights: Floats, theta: Floats, count: int) -> Floats:
        """Return the scores of the first `count` rows, by one Newton step from theta, (r + 1, 1), without it."""
        from scipy.linalg import cho_factor, cho_solve

        if not count:
            return np.zeros(0)
        scores = self._scores(theta)[:, 0]
        probability = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
        curvature = weights * probability * (1 - probability)
        rows = np.column_stack([self.rows, np.ones(len(self.rows))])
        hessian = (rows * curvature[:, None]).T @ rows
        np.einsum("ii->i", hessian)[:-1] += 1
        hessian[-1, -1] += _LEAST_CURVATURE
        own = rows[:count]
        reach = np.einsum("ij,ji->i", own, cho_solve(cho_factor(hessian), own.T))
        slope = weights[:count] * (probability[:count] - self.targets[:count, 0])
        left: Floats = scores[:count] + reach * slope / np.maximum(1 - reach * curvature[:count], _LEAST_LEFT)
        return left

    def _scores(self, theta: Floats) -> Floats:
        scores: Floats = self.rows @ theta[:-1] + theta[-1]
        return scores

    def _transposed(self, values: Floats) -> Floats:
        return np.concatenate([self.rows.T @ values, values.sum(axis=0, keepdims=True)])

    def _derivatives(self, theta: Floats, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """Return the gradient, (r + 1, columns), and the curvature of each row's loss, (m, columns)."""
        self.steps += 1
        probability = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
        gradient = self._transposed(weights * (probability - self.targets))
        gradient[:-1] += theta[:-1]
        return gradient, weights * probability * (1 - probability)

    def _advance(self, theta: Floats, scores: Floats, weights: Floats, step: Floats, gradient: Floats) -> None:
        """Move theta and scores against `step`, halved in each column until the loss falls (Armijo)."""
        change = self._scores(step)
        size = np.ones(theta.shape[1])
        before = self._loss(theta, scores, weights)
        slope = 1e-4 * np.einsum("ij,ij->j", step, gradient)
        for _ in range(30):
            after = self._loss(theta - size * step, scores - size * change, weights)
            worse = after > before - size * slope + 1e-12 * np.abs(before)
            if not worse.any():
                break
            size[worse] /= 2
        theta -= size * step
        scores -= size * change

    def _loss(self, theta: Floats, scores: Floats, weights: Floats) -> Floats:
        losses = np.logaddexp(0, scores) - self.targets * scores
        total: Floats = 0.5 * np.einsum("ij,ij->j", theta[:-1], theta[:-1]) + np.einsum("ij,ij->j", weights, losses)
        return total

    def _conjugate(self, curvature: Floats, gradient: Floats) -> tuple[Floats, int]:
        """Solve H step = gradient in every column by conjugate gradients under the factor; also return iterations."""
        step = np.zeros_like(gradient)
        residual = gradient.copy()
        direction = _solved(self.factor, residual)
        energy = np.einsum("ij,ij->j", residual, direction)
        goal = energy * _ACCURACY
        inner = 0
        while inner < _MAX_INNER:
            inner += 1
            product = self._transposed(curvature * self._scores(direction))
            product[:-1] += direction[:-1]
            length = energy / np.maximum(np.einsum("ij,ij->j", direction, product), 1e-300)
            step += length * direction
            residual -= length * product
            solved = _solved(self.factor, residual)
            fresh = np.einsum("ij,ij->j", residual, solved)
            if not (fresh > goal).any():
                break
            direction = solved + fresh / np.maximum(energy, 1e-300) * direction
            energy = fresh
        return step, inner


def _checked(x: NDArray[Any], y: NDArray[Any], folds: NDArray[np.int64] | None) -> tuple[Floats, NDArray[np.bool_]]:
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.dtype not in (np.float32, np.float64):
        raise ArrayError("x: expected float32 or float64 rows of shape (m, D); convert it first")
    check_array(x, "x", dtype=x.dtype, shape=(None, None), finite=True)
    y = np.asarray(y)
    if y.shape != (len(x),):
        raise ArrayError(f"y: expected one label per row, {len(x)}, got shape {y.shape}")
    if folds is not None:
        check_array(folds, "folds", dtype=np.int64, shape=(len(x),))
    return x.astype(np.float64), y > 0


def _kept_columns(folds: NDArray[np.int64], positive: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the rows of each training set: all of them first, then without each fold."""
    kept = [np.ones(len(folds), np.bool_)]
    kept += [folds != fold for fold in np.unique(folds[folds >= 0])]
    for rows in kept:
        if not positive[rows].any() or positive[rows].all():
            raise ArrayError(
                "y: expected both classes in every training set, got one; give labels of both or fewer folds"
            )
    return kept


def _checked_weights(weights: NDArray[np.float64] | None, m: int) -> Floats:
    if weights is None:
        return np.ones(m)
    check_array(weights, "sample_weight", dtype=np.float64, shape=(m,), finite=True)
    if (weights <= 0).any():
        raise ArrayError(f"sample_weight: expected numbers above 0, got {float(weights.min())}")
    return weights


def _row_weights(positive: NDArray[np.bool_], own: Floats, balanced: bool) -> Floats:
    """Return row weights, 0 for rows left out, scaled so that each class weighs half the number of rows."""
    if not balanced:
        return own
    half = np.count_nonzero(own) / 2
    weights: Floats = own * np.where(positive, half / own[positive].sum(), half / own[~positive].sum())
    return weights


def _factorised(rows: Floats, curvature: Floats) -> NDArray[np.float32]:
    """Return the Cholesky factor, float32, of the Hessian of the parameters (w, b)."""
    from scipy.linalg import lapack

    root = np.sqrt(curvature)
    scaled = np.empty((rows.shape[0], rows.shape[1] + 1), np.float32)
    scaled[:, :-1] = rows * root[:, None]
    scaled[:, -1] = root
    # NumPy also calls ssyrk, but releases the GIL; SciPy holds it. The transposed result is in LAPACK's memory order.
    hessian = (scaled.T @ scaled).T
    diagonal = np.einsum("ii->i", hessian)
    diagonal[:-1] += 1
    diagonal[-1] += np.float32(1e-6) * diagonal.max()
    factor: NDArray[np.float32] = lapack.spotrf(hessian, lower=1, overwrite_a=1, clean=0)[0]
    return factor


def _solved(factor: NDArray[np.float32], right: Floats) -> Floats:
    from scipy.linalg import lapack

    solution: NDArray[np.float32] = lapack.spotrs(factor, right.astype(np.float32), lower=1)[0]
    return solution.astype(np.float64)

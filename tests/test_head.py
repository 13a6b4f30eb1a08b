import numpy as np
import pytest

from gpubranches.encoders.heads import IdentityHead, PCAHead, RCAHead, load_head, open_head
from gpubranches.errors import CatalogFormatError, NotFittedError, UsageError


def sample(n=400, dims=40, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, dims)) * np.linspace(3, 0.1, dims) + 1).astype(np.float32)


def test_pca_gives_unit_vectors_of_the_principal_dims():
    x = sample()
    head = PCAHead(8).fit(x)
    vectors = head.transform(x)
    assert (vectors.shape, vectors.dtype, head.d) == ((400, 8), np.float32, 8)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    _, _, right = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(right[:8] @ head.components_.T), np.eye(8), atol=1e-3)
    assert (head.components_[np.arange(8), np.abs(head.components_).argmax(axis=1)] > 0).all()


def test_rca_sees_the_groups_under_what_differs_most(tmp_path):
    rng = np.random.default_rng(0)
    groups = rng.standard_normal((12, 40)) * (np.arange(40) < 12)
    member = np.repeat(np.arange(12), 60)
    noise = rng.standard_normal((720, 40)) * np.where(np.arange(40) < 12, 0.2, 1.5)
    x = (groups[member] + noise).astype(np.float32)

    def purity(head):
        vectors = head.fit(x).transform(x)
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -2)
        return (member[np.argsort(-cosines, axis=1)[:, :10]] == member[:, None]).mean()

    pca, rca = PCAHead(8), RCAHead(8)
    assert purity(rca) > purity(pca) + 0.2
    assert rca.components_.shape == (8, 40)
    assert np.allclose(np.linalg.norm(rca.transform(x), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("x", [np.ones((1, 8), np.float32), np.ones((50, 8), np.float32), np.eye(8, dtype=np.float32)])
def test_rca_takes_any_rows(x):
    head = RCAHead(4).fit(x)
    assert np.isfinite(head.components_).all()
    assert np.isfinite(head.transform(x)).all()


def test_few_dims_give_fewer_code_dims():
    assert PCAHead(32).fit(sample(dims=22)).d == 20
    assert PCAHead(32).fit(sample(n=3)).d == 32
    with pytest.raises(UsageError, match="4 dims"):
        PCAHead().fit(sample(dims=3))


@pytest.mark.parametrize("head", [PCAHead(8), RCAHead(8), IdentityHead()])
def test_a_head_is_written_and_read_back(tmp_path, head):
    x = sample()
    head.fit(x)
    (tmp_path / "head.safetensors").write_bytes(head.to_bytes())
    again = load_head(tmp_path / "head.safetensors")
    assert (again.identity, again.d) == (head.identity, head.d)
    assert np.array_equal(again.transform(x), head.transform(x))
    opened, ready = open_head(str(tmp_path / "head.safetensors"))
    assert ready
    assert opened.identity == head.identity


def test_wrong_heads_are_refused(tmp_path):
    (tmp_path / "bad").write_bytes(b"nothing of the kind")
    with pytest.raises(CatalogFormatError, match="bad"):
        load_head(tmp_path / "bad")
    with pytest.raises(UsageError, match="rca, pca, none or"):
        open_head("svd")
    with pytest.raises(NotFittedError):
        PCAHead().transform(sample())
    with pytest.raises(UsageError, match="multiple of 4"):
        IdentityHead().fit(sample(dims=42))
    with pytest.raises(UsageError, match="multiple of 4, got 7"):
        PCAHead(7).fit(sample())

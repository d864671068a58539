"""Eigenvalues of A A^T by LAPACK's routines, against numpy's singular values."""

from __future__ import annotations

import numpy as np
import pytest

from illama_eval.functional import lapack, spectrum
from illama_eval.functional.lapack import squared_singular_values


@pytest.fixture
def matrices():
    return np.random.default_rng(0).normal(size=(3, 40, 40))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 40, 40), (2, 30, 50), (1, 1, 1), (2, 2, 3)])
def test_they_are_the_squares_of_the_singular_values(shape, dtype):
    given = np.random.default_rng(0).normal(size=shape).astype(dtype)
    before = given.copy()
    squares = squared_singular_values(given)
    assert squares is not None, "this scipy does not offer the routines: spectra are slower"
    exact = np.linalg.svd(given.astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(squares[:, ::-1], exact**2, atol=1e-12, rtol=1e-12)
    assert np.array_equal(given, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_matrix_that_is_not_finite_is_nan_and_leaves_the_others_alone(matrices, bad):
    matrices[1, 3, 5] = bad
    squares = squared_singular_values(matrices)
    assert np.isnan(squares[1]).all()
    assert np.isfinite(squares[[0, 2]]).all()


def test_routines_of_another_form_are_not_called(matrices, monkeypatch):
    monkeypatch.setitem(lapack.SIGNATURES, "dsterf", "void (long *, double *, double *, long *)")
    lapack._routines.cache_clear()
    try:
        assert squared_singular_values(matrices) is None
        monkeypatch.setattr(spectrum, "LARGE", 1)
        fell_back = spectrum._by_eigenvalues(matrices)
    finally:
        lapack._routines.cache_clear()
    exact = np.linalg.svd(matrices, compute_uv=False)
    np.testing.assert_allclose(fell_back, exact, rtol=1e-9)

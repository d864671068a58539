"""Eigenvalues of A A^T by scipy's LAPACK, called without the interpreter's lock.

A reduction to a tridiagonal matrix and its eigenvalues, with a workspace that lets LAPACK reduce in
blocks and only one half of the product formed: on a few hundred rows that takes three quarters of
the time of numpy's calls (benchmarks/spectra.py). scipy's own wrappers of the same functions keep
the lock, so that two threads would take turns; those that it offers to compiled code do not.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from illama_eval.functional.cores import find_libraries

Floats: TypeAlias = NDArray[np.floating]
Matrices: TypeAlias = NDArray[np.float64]
Routine: TypeAlias = Callable[..., None]

BLOCK = 16
"""Columns that are reduced at a time."""
SIGNATURES = {
    "dsyrk": "void (char *, char *, int *, int *, double *, double *, int *, double *, double *, "
    "int *)",
    "dsytrd": "void (char *, int *, double *, int *, double *, double *, double *, double *, "
    "int *, int *)",
    "dsterf": "void (int *, double *, double *, int *)",
}
"""What each routine must take; with another kind of integers it would read beyond its arguments."""


def squared_singular_values(matrices: Floats) -> Matrices | None:
    """Return the eigenvalues of A A^T of matrices [matrix, row, column], float64 [matrix, row].

    The smallest comes first; those of a matrix that is not finite are NaN. None where scipy does
    not offer the routines in a known form. One matrix at a time is converted to float64: it and
    its product are all that a core's cache must hold.

    Raises:
        LinAlgError: LAPACK found no eigenvalues.
    """
    routines = _routines()
    if routines is None:
        return None
    number, rows, columns = matrices.shape
    squares = np.empty((number, rows))
    exact, product = np.empty((rows, columns)), np.empty((rows, rows))
    space = np.empty(BLOCK * rows)
    below, reflectors, failed = np.empty(rows), np.empty(rows), ctypes.c_int(0)
    half, transposed = ctypes.c_char_p(b"L"), ctypes.c_char_p(b"T")
    length, depth, room = (ctypes.byref(ctypes.c_int(n)) for n in (rows, columns, space.size))
    one, nothing = (ctypes.byref(ctypes.c_double(x)) for x in (1.0, 0.0))
    for matrix, diagonal in zip(matrices, squares, strict=True):
        np.copyto(exact, matrix)
        # a matrix row by row is its transpose to LAPACK, which reads column by column
        routines["dsyrk"](
            *(half, transposed, length, depth, one, _at(exact), depth),
            *(nothing, _at(product), length),
        )
        if not np.isfinite(product.trace()):
            diagonal[:] = np.nan  # LAPACK could search for its eigenvalues for ever
            continue
        routines["dsytrd"](
            *(half, length, _at(product), length, _at(diagonal), _at(below), _at(reflectors)),
            *(_at(space), room, ctypes.byref(failed)),
        )
        routines["dsterf"](length, _at(diagonal), _at(below), ctypes.byref(failed))
        if failed.value:
            raise np.linalg.LinAlgError("eigenvalues did not converge")
    return squares


def _at(array: Matrices) -> int:
    return array.ctypes.data


@cache
def _routines() -> dict[str, Routine] | None:
    """Return the routines by name, or None where one is not offered in the form above."""
    from scipy.linalg import cython_blas, cython_lapack  # noqa: PLC0415 - small maps need no scipy

    found = {
        name: _routine(module, name)
        for module, names in ((cython_blas, ("dsyrk",)), (cython_lapack, ("dsytrd", "dsterf")))
        for name in names
    }
    find_libraries()
    known = {name: routine for name, routine in found.items() if routine is not None}
    return known if len(known) == len(found) else None


def _routine(module: Any, name: str) -> Routine | None:
    """Return a routine that scipy offers to Cython, as a function of addresses."""
    capsule = module.__pyx_capi__.get(name)
    if capsule is None:
        return None
    python = ctypes.pythonapi
    python.PyCapsule_GetName.restype = ctypes.c_char_p
    python.PyCapsule_GetName.argtypes = [ctypes.py_object]
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    written = python.PyCapsule_GetName(capsule)
    if re.sub(r"\w+_d\b", "double", written.decode("ascii")) != SIGNATURES[name]:
        return None
    arguments = [ctypes.c_void_p] * (written.count(b",") + 1)
    routine: Routine = ctypes.CFUNCTYPE(None, *arguments)(
        python.PyCapsule_GetPointer(capsule, written)
    )
    return routine

"""The files that the authors published: what they are, and fetching them when asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Released:
    """One published checkpoint."""

    name: str
    sha256: str
    """Of the file's bytes."""
    megabytes: float
    top1: float
    """Published ImageNet-1K top-1, a fraction (paper, Table 6)."""


RELEASED = (
    Released(
        name="illama-tiny-in1k-75.0",
        sha256="ec1843fa444e0516fc84ac0dd1f0ba8e0bd1b3affb576b4080273b5e1115582a",
        megabytes=68.5,
        top1=0.750,
    ),
    Released(
        name="illama-small-in1k-79.9",
        sha256="89c9461ec3a00c5067d10f7fdb6594291bb58596514a6010e46376ed7338615d",
        megabytes=264,
        top1=0.799,
    ),
    Released(
        name="illama-base-in1k-81.6",
        sha256="bae9ec0ab65fba452949e9310ad618b45006e47821f41ef633637191e3b38224",
        megabytes=1038.1,
        top1=0.816,
    ),
    Released(
        name="illama-base-in1k-384-83.0",
        sha256="c5177f3074bc67159d4c16f0f1b51b3bc4d10eeceb18cfd2e4b2d1ead488efa5",
        megabytes=1041.6,
        top1=0.830,
    ),
    Released(
        name="illama-base-in21kin1k-224-83.6",
        sha256="370346f84467702cc85bb9081ddf99df60489ef296ad3d908716e40a32975492",
        megabytes=1038.1,
        top1=0.836,
    ),
    Released(
        name="illama-base-in21kin1k-384-85.0",
        sha256="ee3348a612f4c0bda471991eb4dbf6b4be5960379a34c3010a0bb2c9d1b07bff",
        megabytes=1041.6,
        top1=0.850,
    ),
    Released(
        name="illama-large-in21kin1k-224-84.8",
        sha256="e34f6ea5bd2f488c68a0ee1f7a62ac233c21b6d566d3865b59d93f8e9be2ad94",
        megabytes=3725.6,
        top1=0.848,
    ),
    Released(
        name="illama-large-in21kin1k-384-86.0",
        sha256="91b9a558475a3b3c694094f7ba7334cae7ba865a26d72a4dcbee4b3264592b04",
        megabytes=3730.2,
        top1=0.860,
    ),
)


def identify(sha256: str) -> Released | None:
    """Return the published file with this sha256."""
    return next((file for file in RELEASED if file.sha256 == sha256), None)

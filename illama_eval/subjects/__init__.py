"""Subjects: named models with provenance, from checkpoints, timm or stored predictions."""

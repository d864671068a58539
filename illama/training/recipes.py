"""The published recipes as data: field values of `illama.training.recipe.Recipe`, by recipe name.

Table numbers are those of Wang et al. 2024; what its tables do not give is as in the released
scripts. Values shared by several recipes come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_Fields = Mapping[str, Any]

_AUGMENTED: _Fields = {
    "crop": "resized",
    "flip": 0.5,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "color_jitter": 0.4,
    "erasing": 0.25,
    "label_smoothing": 0.1,
}
"""Augmentation in every recipe of the paper (Tables 12 to 14)."""

_IMAGENET: _Fields = {
    **_AUGMENTED,
    "image_size": 224,
    "classes": 1000,
    "epochs": 300,
    "batch_size": 4096,
    "micro_batch": 128,
    "lr": 4e-3,
    "weight_decay": 0.05,
}
"""Training from scratch on ImageNet-1K (Table 12)."""

_TINY: _Fields = {
    **_IMAGENET,
    "size": "tiny",
    "warmup_epochs": 5,
    "mixup": 0.1,
    "cutmix": 0.1,
    "cutoff_soft": 50,
}
_SMALL: _Fields = {
    **_IMAGENET,
    "size": "small",
    "warmup_epochs": 5,
    "mixup": 0.5,
    "cutmix": 0.5,
    "drop_path": 0.1,
    "mask_schedule": "linear",
    "cutoff_soft": 50,
}
_BASE: _Fields = {
    **_IMAGENET,
    "size": "base",
    "warmup_epochs": 50,
    "mixup": 0.95,
    "cutmix": 1.0,
    "drop_path": 0.4,
    "mask_schedule": "linear",
    "cutoff_soft": 25,
}

_IMAGENET_21K: _Fields = {
    **_AUGMENTED,
    "image_size": 224,
    "classes": 10_450,
    "epochs": 90,
    "batch_size": 4096,
    "micro_batch": 32,
    "lr": 1e-3,
    "weight_decay": 0.01,
    "warmup_epochs": 5,
    "drop_path": 0.1,
    "mixup": 0.8,
    "cutmix": 1.0,
    "cutoff_soft": 30,
}
"""Training from scratch on ImageNet-21K-P, winter 2021 (Table 13)."""

_TUNED: _Fields = {
    **_AUGMENTED,
    "classes": 1000,
    "epochs": 30,
    "batch_size": 512,
    "weight_decay": 1e-8,
    "warmup_epochs": 0,
    "cutoff_soft": 0,
}
"""Fine-tuning on ImageNet-1K, causal from the start (Table 14)."""

_TUNED_224: _Fields = {**_TUNED, "image_size": 224, "micro_batch": 32}
_TUNED_384: _Fields = {**_TUNED, "image_size": 384, "micro_batch": 16}

_ADE20K: _Fields = {
    "task": "segmentation",
    "image_size": 512,
    "classes": 150,
    "epochs": 254,
    "batch_size": 32,
    "micro_batch": 4,
    "lr": 6e-5,
    "lr_schedule": "polynomial",
    "layer_decay": 0.9,
    "weight_decay": 0.01,
    "warmup_epochs": 0,
    "warmup_steps": 1500,
    "soft_mask": 0.0,
    "cutoff_soft": 0,
    "drop_path": 0.1,
    "label_smoothing": 0.0,
    "flip": 0.5,
    "short_side": 512,
    "scales": 2.0,
    "photometric": True,
}
"""UperNet on ADE20K: 160,000 steps of 32 images are 254 epochs of 20,210 (Table 10; released
history; the batch is inferred)."""

_CIFAR: _Fields = {
    **_AUGMENTED,
    "size": "tiny",
    "image_size": 224,
    "epochs": 300,
    "batch_size": 1024,
    "micro_batch": 256,
    "lr": 2e-3,
    "warmup_epochs": 50,
    "mixup": 0.8,
    "cutmix": 1.0,
    "mask_schedule": "linear",
    "dtype": "fp16",
    "start": "trained/illama_tiny-in1k/illama_tiny-in1k.safetensors",
}
"""Fine-tuning all weights on CIFAR at 224 pixels (Tables 9 and 16)."""

TABLE: Mapping[str, _Fields] = {
    "tiny-in1k": {"summary": "iLLaMA-T from scratch on ImageNet-1K (Table 12)", **_TINY},
    "small-in1k": {"summary": "iLLaMA-S from scratch on ImageNet-1K (Table 12)", **_SMALL},
    "base-in1k": {"summary": "iLLaMA-B from scratch on ImageNet-1K (Table 12)", **_BASE},
    "base-in21k": {
        "summary": "iLLaMA-B from scratch on ImageNet-21K (Table 13)",
        **_IMAGENET_21K,
        "size": "base",
    },
    "large-in21k": {
        "summary": "iLLaMA-L from scratch on ImageNet-21K (Table 13)",
        **_IMAGENET_21K,
        "size": "large",
        "recompute": True,
    },
    "base-in1k-384": {
        "summary": "base-in1k fine-tuned at 384 px (Table 14)",
        **_TUNED_384,
        "size": "base",
        "lr": 8e-5,
        "drop_path": 0.8,
        "start": "trained/illama_base-in1k/illama_base-in1k.safetensors",
    },
    "base-in21k-in1k-224": {
        "summary": "base-in21k fine-tuned on ImageNet-1K (Table 14)",
        **_TUNED_224,
        "size": "base",
        "lr": 8e-5,
        "drop_path": 0.2,
        "start": "trained/illama_base-in21k/illama_base-in21k.safetensors",
    },
    "base-in21k-in1k-384": {
        "summary": "base-in21k fine-tuned on ImageNet-1K at 384 px (Table 14)",
        **_TUNED_384,
        "size": "base",
        "lr": 1.1e-4,
        "drop_path": 0.2,
        "start": "trained/illama_base-in21k/illama_base-in21k.safetensors",
    },
    "large-in21k-in1k-224": {
        "summary": "large-in21k fine-tuned on ImageNet-1K (Table 14)",
        **_TUNED_224,
        "size": "large",
        "lr": 6e-5,
        "drop_path": 0.3,
        "recompute": True,
        "start": "trained/illama_large-in21k/illama_large-in21k.safetensors",
    },
    "large-in21k-in1k-384": {
        "summary": "large-in21k fine-tuned on ImageNet-1K at 384 px (Table 14)",
        **_TUNED_384,
        "size": "large",
        "lr": 3.5e-5,
        "drop_path": 0.3,
        "recompute": True,
        "start": "trained/illama_large-in21k/illama_large-in21k.safetensors",
    },
    "tiny-cifar10": {
        "summary": "tiny-in1k fine-tuned on CIFAR-10 at 224 px (Tables 9, 16)",
        **_CIFAR,
        "data": "cifar10",
        "classes": 10,
        "cutoff_soft": 25,
    },
    "tiny-cifar100": {
        "summary": "tiny-in1k fine-tuned on CIFAR-100 at 224 px (Tables 9, 16)",
        **_CIFAR,
        "data": "cifar100",
        "classes": 100,
        "cutoff_soft": 50,
    },
    "tiny-llama2": {
        "summary": "tiny-in1k from weights selected from LLaMA-2-7B (Table 18)",
        **_TINY,
        "start": "illama_tiny_llama2.pth",
    },
    "small-llama2": {
        "summary": "small-in1k from weights selected from LLaMA-2-7B (Table 18)",
        **_SMALL,
        "start": "illama_small_llama2.pth",
    },
    "base-llama2": {
        "summary": "base-in1k from weights selected from LLaMA-2-7B (Table 18)",
        **_BASE,
        "start": "illama_base_llama2.pth",
    },
    "tiny-ade20k": {
        "summary": "tiny-in1k with UperNet on ADE20K at 512 px (Table 10)",
        **_ADE20K,
        "size": "tiny",
        "start": "trained/illama_tiny-in1k/illama_tiny-in1k.safetensors",
    },
    "base-ade20k": {
        "summary": "base-in1k with UperNet on ADE20K at 512 px (Table 10)",
        **_ADE20K,
        "size": "base",
        "start": "trained/illama_base-in1k/illama_base-in1k.safetensors",
    },
    "segment": {
        "summary": "nano with UperNet on the demo's shapes: minutes on two cores",
        "task": "segmentation",
        "data": "demo-shapes",
        "size": "nano",
        "image_size": 32,
        "classes": 11,
        "epochs": 6,
        "batch_size": 40,
        "lr": 2e-3,
        "lr_schedule": "polynomial",
        "warmup_epochs": 0,
        "warmup_steps": 30,
        "soft_mask": 0.0,
        "cutoff_soft": 0,
        "label_smoothing": 0.0,
        "flip": 0.5,
        "dtype": "bf16",
    },
    "demo": {
        "summary": "nano on the demo's drawn pictures: minutes on two cores",
        "data": "demo",
        "size": "nano",
        "image_size": 32,
        "classes": 10,
        "epochs": 8,
        "batch_size": 100,
        "lr": 1e-3,
        "warmup_epochs": 1,
        "cutoff_soft": 3,
        "dtype": "bf16",
    },
    "cifar10-nano": {
        "summary": "nano on CIFAR-10: about an hour on two cores; our own recipe",
        "data": "cifar10",
        "size": "nano",
        "image_size": 32,
        "classes": 10,
        "epochs": 24,
        "batch_size": 128,
        "lr": 2e-3,
        "warmup_epochs": 2,
        "clip_grad": 1.0,
        "cutoff_soft": 5,
        "crop_padding": 4,
        "flip": 0.5,
        "dtype": "bf16",
    },
}
"""Field values of every recipe by its name."""

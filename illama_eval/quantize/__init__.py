"""Post-training quantization: schemes, rounding, calibration, sensitivity."""

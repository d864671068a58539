"""Transfer to other images: features, probes and fine-tuning."""

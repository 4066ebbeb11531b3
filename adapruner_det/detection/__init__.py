"""The Detectron2 side: configuration, data, per-image losses, training."""

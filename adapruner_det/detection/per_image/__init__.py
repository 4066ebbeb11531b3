"""Detectron2's losses, taken apart by image: one file per head."""

from .table import check_per_image, put_together, take_apart, unhandled

__all__ = ["check_per_image", "put_together", "take_apart", "unhandled"]

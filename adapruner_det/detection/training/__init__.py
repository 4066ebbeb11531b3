"""The weighted training of a detector, and plain training on what was kept."""

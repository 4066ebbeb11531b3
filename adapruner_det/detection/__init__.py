"""The Detectron2 side: configuration, data, per-image losses, training."""

import warnings

with warnings.catch_warnings():
    # Of what Detectron2 uses and PyTorch has deprecated: nothing that a user of this could mend.
    warnings.simplefilter("ignore", FutureWarning)
    import detectron2.engine
    import detectron2.modeling  # noqa: F401

"""The same core on image classification: data, models, one training loop and its tools."""

"""What is trained on: readers, checks, identity, loaders, kept splits and evaluators."""

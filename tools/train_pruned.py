#!/usr/bin/env python3
"""Train the plain detector on the images that a selection keeps."""

from adapruner_det.cli.train_pruned import main

if __name__ == "__main__":
    main()

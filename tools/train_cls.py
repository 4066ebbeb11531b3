#!/usr/bin/env python3
"""Train a classifier on the images that a selection keeps."""

from adapruner_det.cli.train_cls import main

if __name__ == "__main__":
    main()

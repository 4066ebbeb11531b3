#!/usr/bin/env python3
"""Print the anchors that fit the boxes of the training images."""

from adapruner_det.cli.anchors import main

if __name__ == "__main__":
    main()

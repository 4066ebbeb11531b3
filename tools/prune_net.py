#!/usr/bin/env python3
"""Learn which training images a detector can do without."""

from adapruner_det.cli.prune_net import main

if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Learn which training images a classifier can do without."""

from adapruner_det.cli.prune_cls import main

if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What `make demo` runs: prune the demo data with a real detector and retrain on what was kept."""

from adapruner_det.cli.demo import main

if __name__ == "__main__":
    main(__file__)

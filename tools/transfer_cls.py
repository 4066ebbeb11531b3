#!/usr/bin/env python3
"""Pre-train a classifier on the kept part of one set, fine-tune on another."""

from adapruner_det.cli.transfer_cls import main

if __name__ == "__main__":
    main()

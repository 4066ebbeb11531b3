#!/usr/bin/env python3
"""Compare methods: train on all samples and on what each method keeps, seed by seed."""

from adapruner_det.cli.compare import main

if __name__ == "__main__":
    main()

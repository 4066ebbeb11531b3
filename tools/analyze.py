#!/usr/bin/env python3
"""Show what a selection does to the classes: t-SNE, Dunn index, distances."""

from adapruner_det.cli.analyze import main

if __name__ == "__main__":
    main()

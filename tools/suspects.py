#!/usr/bin/env python3
"""List the images whose labels a detector contradicts that was not trained on them."""

from adapruner_det.cli.suspects import main

if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Cut other keep ratios from a run that is done, without training."""

from adapruner_det.cli.cut import main

if __name__ == "__main__":
    main()

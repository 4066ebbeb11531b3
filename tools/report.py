#!/usr/bin/env python3
"""Show what was kept and dropped on one page, and take a person's say."""

from adapruner_det.cli.report import main

if __name__ == "__main__":
    main()

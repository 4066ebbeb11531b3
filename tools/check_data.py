#!/usr/bin/env python3
"""List every faulty sample of all that a detection run would read."""

from adapruner_det.cli.check_data import main

if __name__ == "__main__":
    main()

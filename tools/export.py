#!/usr/bin/env python3
"""Write the kept samples in another program's format: VOC, COCO, YOLO, FiftyOne, list or CSV."""

from adapruner_det.cli.export import main

if __name__ == "__main__":
    main()

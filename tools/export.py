#!/usr/bin/env python3
"""Write the kept samples as VOC, COCO, YOLO, FiftyOne, a list or CSV."""

from adapruner_det.cli.export import main

if __name__ == "__main__":
    main()

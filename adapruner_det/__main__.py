"""``python -m adapruner_det``: the command ``adapruner``."""

from .cli import main

if __name__ == "__main__":
    main()

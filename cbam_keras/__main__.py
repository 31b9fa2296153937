"""Lets `python -m cbam_keras` run the command `cbam-keras`."""

import sys

from cbam_keras.cli import main

if __name__ == "__main__":
    sys.exit(main())

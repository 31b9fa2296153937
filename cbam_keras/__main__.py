"""Lets `python -m cbam_keras` run the command `cbam-keras`."""

import sys

from _cbam_keras_command import main

if __name__ == "__main__":
    sys.exit(main())

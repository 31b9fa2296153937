"""cli."""

from cbam_keras.cli.arguments import add_output
from cbam_keras.cli.command import main

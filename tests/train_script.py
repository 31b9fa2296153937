"""`cbam-keras train` with few digits and a tiny network, which kills itself.

Arguments: at which file to die, 0 for never, and those of the command.
"""

import sys

import digits
import networks
import training_checks

from cbam_keras import cli


def main():
    count, *arguments = sys.argv[1:]
    digits.replace(digits.few)
    networks.replace_tiny()
    training_checks.die_at(int(count))
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())

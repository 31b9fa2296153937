"""A search in a process of its own, which kills itself on the way.

Arguments: the folder, and at which file to die.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import digits
import training_checks
import tuning_checks


def main():
    folder, count = sys.argv[1:]
    digits.replace(digits.few)
    training_checks.die_at(int(count))
    tuning_checks.search(pathlib.Path(folder), max_trials=2, confirm=1)


if __name__ == "__main__":
    main()

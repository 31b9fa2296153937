"""Says whether attention in source is what it is called.

It runs the definitions of files, in another process: do not check what you
would not import. Imports, functions, classes and plain assignments are
executed; no model, weights or data are needed. It ends with 1 if a gate is
wrong, not what it is called, or could not be looked into, or if there is none.

examples:
  python -m examples.check_source train.py
  python -m examples.check_source notebook.ipynb submissions/ --json
  python -m examples.check_source package.module:build
"""

import argparse
import json
import sys


def main(arguments=None) -> int:
    """Runs a command line, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.check_source",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a file .py or .ipynb, a folder, or MODULE:FUNCTION, which builds "
        "a network",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as JSON: passed, and gates with their file and "
        "line",
    )
    options = parser.parse_args(arguments)
    # Importing Keras takes seconds, and `--help` must not wait for it.
    from examples.check_source.source import check_source

    try:
        reports = [check_source(path) for path in options.paths]
    except ValueError as error:
        parser.error(str(error))
    passed = all(report.passed for report in reports)
    if options.json:
        gates = [
            # JSON has no NaN.
            {name: None if x != x else x for name, x in vars(row).items()}
            for report in reports
            for row in report.rows
        ]
        print(json.dumps({"passed": passed, "gates": gates}, indent=2))
    else:
        print(*reports, sep="\n")
    return int(not passed)


if __name__ == "__main__":
    sys.exit(main())

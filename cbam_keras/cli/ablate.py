"""The command `cbam-keras ablate`."""

import argparse

from cbam_keras import ablation, training
from cbam_keras.cli.arguments import (
    add_data,
    add_model,
    add_recipe,
    add_run_folder,
    data_options_of,
    model_of,
    recipe_of,
    run_folder_of,
)


def add_ablate(commands):
    """Adds the subcommand to the parser."""
    parser = commands.add_parser(
        "ablate",
        help="run the paper's comparisons on your own data, over seeds",
        description=(
            "Trains the networks of the paper's Tables 1, 2 and 3 and "
            "baseline, SE and CBAM of Table 4 over several seeds, and ends "
            "with those tables: mean, deviation, and the paired difference "
            "to the baseline. The same command given again resumes."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_model(parser, own=True)
    add = parser.add_argument
    add(
        "--tables",
        type=int,
        nargs="+",
        default=list(ablation.TABLES),
        metavar="TABLE",
        help="of the paper",
    )
    add("--seeds", type=int, default=3, help="how many seeds, from 0")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--csv", action="store_true", help="print CSV")
    add_run_folder(parser, "runs/ablate-DATA-MODEL")
    add_data(parser, "cluttered_mnist")
    add_recipe(parser, training.Recipe())
    parser.set_defaults(handler=_ablate, prog=parser.prog)


def _ablate(options):
    results = ablation.run(
        options.data,
        model=model_of(options.model),
        tables=options.tables,
        seeds=options.seeds,
        recipe=recipe_of(options, training.Recipe()),
        data_options=data_options_of(options),
        **run_folder_of(options),
    )
    if options.markdown:
        print(results.markdown())
    else:
        print(results.csv() if options.csv else results)

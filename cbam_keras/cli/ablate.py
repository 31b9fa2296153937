"""The command `cbam-keras ablate`."""

import argparse

from cbam_keras import ablation, comparison
from cbam_keras._process import COMMANDS, HelpFormatter, examples
from cbam_keras.cli.arguments import (
    add_data,
    add_dry_run,
    add_identity_init,
    add_model,
    add_quiet,
    add_recipe,
    add_run_folder,
    data_options_of,
    model_of,
    progress_of,
    recipe_of,
    run_folder_of,
)
from cbam_keras.cli.reports import complete, reported


def add_ablate(commands):
    """Adds the subcommand to the parser."""
    parser = commands.add_parser(
        "ablate",
        help=COMMANDS["ablate"],
        description=(
            "Trains the networks of the paper's Tables 1, 2 and 3 and "
            "baseline, SE and CBAM of Table 4 over several seeds, and ends "
            "with those tables: mean, deviation, and the paired difference "
            "to the baseline. The same command given again resumes."
        ),
        epilog=examples(
            "ablate",
            "ablate --tables 1 2 --seeds 5 --epochs 10",
            "ablate --data photos --image-size 64 --quiet --csv > table.csv",
        ),
        formatter_class=HelpFormatter,
    )
    add_model(parser, own=True)
    add = parser.add_argument
    add(
        "--tables",
        type=int,
        action="extend",
        nargs="+",
        default=argparse.SUPPRESS,
        metavar="TABLE",
        help=f"of the paper (default: {' '.join(map(str, ablation.TABLES))})",
    )
    add("--seeds", type=int, default=3, help="how many seeds, from 0")
    add_identity_init(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--csv", action="store_true", help="print CSV")
    add_dry_run(form)
    add_quiet(parser)
    add_run_folder(parser, "runs/ablate-DATA-MODEL")
    add_data(parser, "crowded_mnist")
    add_recipe(parser, comparison.default_recipe)
    parser.set_defaults(handler=_ablate, prog=parser.prog)


def _ablate(options):
    model = model_of(options.model)
    arguments = {
        "model": model,
        "tables": vars(options).get("tables", list(ablation.TABLES)),
        "seeds": options.seeds,
        "recipe": recipe_of(options, comparison.default_recipe(model)),
        "identity_init": vars(options).get("identity_init", True),
        "data_options": data_options_of(options),
    }
    if options.dry_run:
        with progress_of(options):
            estimate = ablation.estimate(options.data, **arguments)
        print(estimate)
        return
    with progress_of(options), reported(options):
        results = ablation.run(
            options.data, **arguments, **run_folder_of(options)
        )
    if options.markdown:
        print(results.markdown())
    else:
        print(results.csv() if options.csv else results, flush=True)
    _complete(options, results)


def _complete(options, results):
    """Adds to the report where the networks of the first seed look."""
    # The page shows no more than a few: first none, SE and CBAM of Table 4.
    tables = sorted({row.table for row in results.rows}, reverse=True)
    names = dict.fromkeys(n for t in tables for n in ablation.TABLES[t])
    seed = results.seeds[0]
    models = [results.output / n / f"seed-{seed}" / f"{n}.keras" for n in names]
    complete(options, results.output, models, seed)

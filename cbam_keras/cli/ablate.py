"""The command `cbam-keras ablate`."""

from cbam_keras import ablation, comparison
from cbam_keras.cli import arguments
from cbam_keras.cli.reports import first_networks
from cbam_keras.cli.runs import run


def add_options(parser):
    """Adds the options of the subcommand to its parser."""
    parser.describe(
        "Trains the networks of the paper's Tables 1, 2 and 3 and "
        "baseline, SE and CBAM of Table 4 over several seeds, and ends "
        "with those tables: mean, deviation, and the paired difference "
        "to the baseline. The same command given again resumes.",
        "ablate",
        "ablate --tables 1 2 --seeds 5 --epochs 10",
        "ablate --data photos --image-size 64 --quiet --csv > table.csv",
    )
    arguments.add_model(parser, own=True)
    arguments.add_values(
        *(parser.add_argument, int, "TABLE"),
        several=True,
        tables=f"of the paper (default: {' '.join(map(str, ablation.TABLES))})",
    )
    form = arguments.add_run(parser, "runs/ablate-DATA-MODEL", seeds=3)
    arguments.add_flags(
        form.add_argument, markdown="print Markdown", csv="print CSV"
    )
    arguments.add_identity_init(parser.add_argument)
    arguments.add_data(parser, "crowded_mnist")
    arguments.add_recipe(parser, comparison.default_recipe)
    parser.set_defaults(handler=_ablate, prog=parser.prog)


def _ablate(options):
    def shown(results):
        if options.markdown:
            return results.markdown()
        return results.csv() if options.csv else results

    model = arguments.model_of(options.model)
    run(
        options,
        ablation.estimate,
        ablation.run,
        comparison.default_recipe(model),
        shown=shown,
        explained=_explained,
        model=model,
        tables=options.tables or list(ablation.TABLES),
        identity_init=options.identity_init is not False,
    )


def _explained(results):
    """Returns the networks of the first seed, first those of Table 4."""
    files = first_networks(results)
    tables = sorted({row.table for row in results.rows}, reverse=True)
    names = dict.fromkeys(n for t in tables for n in ablation.TABLES[t])
    return [files[name] for name in names if name in files]

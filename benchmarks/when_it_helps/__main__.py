"""When attention helps: networks without and with it, each over seeds.

    python -m benchmarks.when_it_helps bccd --data FOLDER --workers 2
    python -m benchmarks.when_it_helps --store
    python -m benchmarks.when_it_helps published
    python -m benchmarks.when_it_helps coverage

Each study has a folder in `runs/when-it-helps`, and the same call resumes it.
`FOLDER` holds `cifar10/train` and `cifar10/test` with a folder of photographs
per class, `bccd` in Pascal VOC's layout, and `camvid/train/images`,
`camvid/train/labels`, the same for val and test. Solar cells come with the
package `elpv-dataset`. `--store` adds what has been trained to
`results.jsonl`, which has a line for each study, so that seeds can be
trained one after another (`--first-seed 3 --seeds 1`), each on any machine.
`benchmarks.tables` renders it into the pages. `published` trains nothing: it
prints what the comparisons of `published.csv` say together, and draws it.
"""

import argparse
import dataclasses
import pathlib

from benchmarks.arguments import positive_integer
from benchmarks.when_it_helps import published, storing, tables
from benchmarks.when_it_helps.plans import PLANS
from cbam_keras import study

FIGURES = pathlib.Path("docs/figures")


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.when_it_helps",
        description=__doc__.partition("\n")[0],
    )
    parser.add_argument(
        "studies",
        nargs="*",
        metavar="NAME",
        help=str([*PLANS, "published", "coverage"]),
    )
    parser.add_argument("--data", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--seeds", type=positive_integer, metavar="NUMBER")
    parser.add_argument("--first-seed", type=int, metavar="SEED")
    parser.add_argument("--workers", type=positive_integer, default=1)
    runs = pathlib.Path("runs/when-it-helps")
    parser.add_argument("--output", type=pathlib.Path, default=runs)
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--figure", action="store_true", help="draw the page's")
    options = parser.parse_args()
    if options.studies == ["coverage"]:
        return published.print_coverage()
    if options.studies == ["published"]:
        tables_of_published = (
            published.table,
            published.table_by_size,
            published.table_without_sources,
            published.counted,
        )
        for make_table in tables_of_published:
            print(f"{make_table()}\n")
        published.figure().savefig(FIGURES / "published.png", dpi=130)
        return
    for name in options.studies:
        plan = PLANS[name](options.data)
        count, first = options.seeds or len(plan.seeds), options.first_seed
        first = plan.seeds[0] if first is None else first
        plan = dataclasses.replace(plan, seeds=range(first, first + count))
        print(study.run(plan, options.output / name, workers=options.workers))
    if options.store:
        storing.store(options.output)
    if options.figure:
        tables.forest().savefig(FIGURES / "when-it-helps.png", dpi=160)


if __name__ == "__main__":
    main()

"""Tables of networks, as results show them."""

from collections.abc import Iterable, Mapping, Sequence

from cbam_keras._terminal import Table, number_cell
from cbam_keras.study.plans.measures import Measure
from cbam_keras.study.results.power import describe_power
from cbam_keras.study.results.statistics import (
    MANY,
    NOTHING,
    Measured,
    Row,
    describe_differences,
)


def networks_table(
    title: str,
    rows: Sequence[Row],
    first: Measure,
    further: Mapping[Measure, Mapping[str, Measured]],
    baseline: str | None,
    note: str,
) -> Table:
    """Returns a table with a row per network, compared by the first measure.

    `further` measures, by network, and the name of the `baseline` are shown if
    there are any.
    """
    difference = "difference"
    if baseline is not None:
        difference = f'difference to "{baseline}"'
    are_timed = None not in [x.seconds_per_epoch for x in rows if x.seeds]
    cells = []
    for row in rows:
        cell = {
            "network": row.label,
            "parameters": number_cell("{:,}", row.parameters),
        }
        if len(rows) >= MANY:
            cell["MMACs"] = number_cell("{:,.4g}", row.macs, 1e-6)
        # Or how trainings failed.
        cell[first.column] = row.mean_cell(first) or "; ".join(row.failures)
        cell[difference] = row.difference_cell(first)
        for measure, by_name in further.items():
            heading = measure.column
            if heading in cell:
                heading = heading.replace(measure.heading, measure.key, 1)
            measured = by_name.get(row.variant, NOTHING)
            cell[heading] = measured.mean_cell(measure)
        if are_timed:
            cell["s / epoch"] = number_cell("{:.1f}", row.seconds_per_epoch)
        cells.append(cell)
    return Table(title, cells, note=note)


def note_of(
    rows: Sequence[Row],
    tested_on: str,
    measures: Iterable[Measure],
    folds: int | None,
) -> str:
    """Returns the note below a table, of what it measures first of all."""
    first, *_ = measures
    note = f"Measured on {tested_on}."
    note += describe_differences(rows, first)
    if seen := describe_power(rows, first, folds):
        note += f" {seen[0].upper()}{seen[1:]}."
    for measure in measures:
        if measure.lower_is_better:
            note += f" A lower {measure.heading} is better."
    return note

"""`ErrorTables`: networks compared as in the paper's tables, in errors."""

import dataclasses

from cbam_keras.study import power
from cbam_keras.study.measures import ACCURACY
from cbam_keras.study.results import Results
from cbam_keras.study.statistics import Column, judge_errors, noun_of


@dataclasses.dataclass(frozen=True)
class ErrorTables(Results):
    """Results shown as errors, in their unit; see `Results`.

    `to_dataframe()` has a row per table and network, with a column of errors
    for each seed, scaled as in the tables.
    """

    columns = (
        Column("description", "label"),
        Column("parameters (M)", "parameters", "{:#.4g}", 1e-6),
        Column("GMACs", "macs", "{:#.4g}", 1e-9),
    )
    with_unit = False

    @property
    def verdict(self) -> str:
        """How many differences exclude zero, in a sentence."""
        errors = self._most_compared()
        guessing = self.describe_guessing() if errors else ""
        text = guessing or judge_errors(errors, self.folds, self.test)
        seen = self._describe_power(errors, False)
        if seen and not guessing:
            text += f" {seen[0].upper()}{seen[1:]}."
        return text

    @property
    def detectable(self) -> float | None:
        """The least difference that 80 % of such studies find."""
        return power.detectable(self._most_compared(), self.test, False)

    def _most_compared(self):
        """Returns the rows that are compared over most seeds."""
        # Some are in two tables.
        compared = {
            (row.variant, comparison.baseline): row
            for comparison in self.comparisons
            for row in self.rows_of(comparison)
            if row.difference is not None
        }
        # Tables may have been trained with different numbers of seeds.
        most = max((row.pairs for row in compared.values()), default=0)
        return [row for row in compared.values() if row.pairs == most]

    def _first_cell(self, row):
        return row.mean_cell(self.measures[0])

    def _difference(self, comparison):
        several = len(self.seeds_of(comparison)) > 1
        return "difference (95 %)" if several else "difference"

    def _title_of(self, comparison):
        number = f"Table {comparison.number}"
        return f"{number}: {comparison.title}, {self.title}"

    def _note_of(self, rows):
        if not rows:
            return ""
        noun = noun_of(self.folds)
        return (
            f"Mean and standard deviation over the {noun}s of the error on "
            f'{self.tested_on}; differences to "{rows[0].label}", paired by '
            f"{noun}."
        )

    def _tables(self):
        return self.tables()

    def __str__(self) -> str:
        return f"{super().__str__()}\n\nAll files are in {self.output}"

    def _errors(self, comparison):
        """Yields the values of each row of a table, scaled."""
        first, *others = self.measures
        further = self._further(comparison)
        for row in self.rows_of(comparison):
            values = {
                "table": row.table,
                "network": self.model,
                "attention": row.label,
                "parameters": row.parameters,
                "macs": row.macs,
                **_errors_of(first, row),
                "difference": first.scaled(row.difference),
                "interval": row.interval
                and tuple(map(first.scaled, row.interval)),
            }
            for measure in others:
                measured = further.get(measure, {}).get(row.variant)
                values |= _errors_of(measure, measured)
            yield values | {"seconds_per_epoch": row.seconds_per_epoch}

    def _records(self):
        records = [x for one in self.comparisons for x in self._errors(one)]
        for row, record in zip(self.rows, records, strict=True):
            low, high = record.pop("interval") or (None, None)
            record |= {"interval_low": low, "interval_high": high}
            for measure in self.measures:
                name = _name_of(measure)
                del record[f"{name}_errors"]
                # Every seed has a column, whichever a network lacks.
                errors = self.values(row.variant, measure)
                for seed in self.seeds:
                    error = measure.scaled(errors.get(seed))
                    record[f"{name}_error_seed_{seed}"] = error
        return records

    def _values(self):
        return {
            "data": self.data,
            "seeds": self.seeds,
            "folds": self.folds,
            "test_images": self.test_images,
            "test": self.test,
            "detectable": self.detectable,
            "rows": [x for one in self.comparisons for x in self._errors(one)],
        }


Results.layouts["errors"] = ErrorTables


def _name_of(measure):
    """Returns what the errors of a measure are called, as "top1"."""
    return measure.key.replace(ACCURACY, "top1").replace("5_accuracy", "5")


def _errors_of(measure, measured):
    """Returns errors by their names; `None` where a measure has no values."""
    name, scaled = _name_of(measure), measure.scaled
    return {
        f"{name}_errors": measured and tuple(map(scaled, measured.values)),
        f"{name}_error": measured and scaled(measured.mean),
        f"{name}_deviation": measured and scaled(measured.deviation),
    }

"""`Comparison`: networks compared, with a table and a verdict."""

import dataclasses
import json
import textwrap

from cbam_keras import training

BASELINE = "none"


@dataclasses.dataclass(frozen=True)
class Comparison(training.Results):
    """Networks compared under equal conditions; prints as a table.

    `json()` returns the comparison as text, `to_dataframe()` a row per network
    and seed, with the attributes of `training.Run` and `seed`.

    Attributes:
        runs: List of `training.Run`, in the order of training. With several
            seeds, `file` begins with the folder of the seed.
        history: See `training.Results`. With several seeds the rows also
            have `seed`.
        output: Path of the output folder.
        rows: List of `training.Compared`, one per network: test accuracy,
            difference to `"none"` paired by seed, and its interval.
        data: String, the name of the dataset.
        seeds: Tuple of integers, in the order of the accuracies in `rows`.
        test_images: Integer, the number of test images.
        verdict: String, the differences in a sentence.
        command: String, the command that draws where the networks of the
            first seed look; `None` if the images have no name or path.
    """

    rows: list[training.Compared]
    data: str
    seeds: tuple[int, ...]
    test_images: int
    verdict: str
    command: str | None

    def _records(self):
        many = len(self.rows)
        return [
            {"seed": self.seeds[number // many], **record}
            for number, record in enumerate(super()._records())
        ]

    def _tables(self):
        title = f"Results in {self.output}"
        if len(self.seeds) > 1:
            title += f", {len(self.seeds)} seeds"
        columns = {
            "network": "left",
            "parameters": "right",
            "test accuracy (%)": "right",
            f'difference to "{BASELINE}"': "right",
            "s / epoch": "right",
        }
        cells = [
            (
                row.network,
                f"{row.parameters:,}",
                row.measured.mean_cell(),
                row.measured.difference_cell(),
                f"{row.seconds_per_epoch:.1f}",
            )
            for row in self.rows
        ]
        yield columns, [cells], title

    def __str__(self) -> str:
        parts = [super().__str__(), textwrap.fill(self.verdict, 100)]
        if self.command is not None:
            parts.append(f"To see where they look:\n{self.command}")
        return "\n\n".join(parts)

    def json(self) -> str:
        """Returns the comparison as a JSON object."""
        return json.dumps(
            {
                "data": self.data,
                "seeds": self.seeds,
                "test_images": self.test_images,
                "rows": [dataclasses.asdict(row) for row in self.rows],
                "verdict": self.verdict,
                "runs": [dataclasses.asdict(run) for run in self.runs],
                "output": str(self.output),
            },
            indent=1,
        )


def verdict(rows):
    """Returns what the differences say, in a sentence."""
    return training.verdict({r.network: r.measured for r in rows}, BASELINE)

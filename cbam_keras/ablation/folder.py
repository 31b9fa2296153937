"""The output folder of an ablation."""

import dataclasses
import json

import keras

from cbam_keras import _files, plotting, training
from cbam_keras._run_folder import RunFolder, as_written, differences

# Settings that may grow: only entries in both calls are compared.
GROWING = ("networks", "data")


def described(label, recipe, fingerprints, images):
    """Returns the settings of an ablation, with the data of one seed."""
    recipe = dataclasses.asdict(recipe)
    del recipe["seed"]
    return {
        "model": label,
        "recipe": recipe,
        "backend": keras.backend.backend(),
        "networks": fingerprints,
        "data": {str(images.seed): images.describe()},
    }


class AblationFolder(RunFolder):
    """The output folder of an ablation, with a training run per subfolder."""

    kind = "ablation"

    def check_content(self, content):
        for key in GROWING:
            if not isinstance(content["settings"][key], dict):
                raise TypeError(f"{key} are not a mapping")

    def changes(self, before):
        old, new = dict(before), dict(self.settings)
        for key in GROWING:
            both = [name for name in old[key] if name in new[key]]
            old[key] = {name: old[key][name] for name in both}
            new[key] = {name: new[key][name] for name in both}
        return differences(old, new)

    def patterns(self, content):
        names = set(content.get("settings", {}).get("networks", ()))
        names |= set(self.settings["networks"])
        return [
            *("tables.md", "tables.csv", "ablation.png"),
            *(
                f"{name}/seed-*/{file}"
                for name in names
                for file in (*training.training_files([name]), "top5.json")
            ),
        ]

    def add_data(self, images):
        """Adds the data of one more seed to the settings."""
        self.settings["data"] = as_written(
            {str(images.seed): images.describe()}
        )
        before = self.read()["settings"]
        for key in GROWING:
            self.content["settings"][key] = {
                **before[key],
                **self.settings[key],
            }
        self.write()

    def finish(self, results):
        """Writes the tables, the figure, and the rows as JSON."""
        for name, text in (
            ("tables.md", results.markdown()),
            ("tables.csv", results.csv()),
        ):
            with _files.replacing(self.path / name) as beside:
                beside.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        figure = plotting.plot_ablation(results, results.title)
        with _files.replacing(self.path / "ablation.png") as beside:
            figure.savefig(beside, dpi=150)
        self.content.update(json.loads(results.json()))
        self.write()

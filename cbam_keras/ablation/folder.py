"""The output folder of an ablation."""

import dataclasses
import json

import keras

from cbam_keras import _files, plotting, training


def described(label, recipe, identity_init, fingerprints, images):
    """Returns the settings of an ablation, with the data of one seed."""
    recipe = dataclasses.asdict(recipe)
    del recipe["seed"]
    return {
        "model": label,
        "recipe": recipe,
        "identity_init": identity_init,
        "backend": keras.backend.backend(),
        "networks": fingerprints,
        "data": {str(images.seed): images.describe()},
    }


class AblationFolder(training.SeedsFolder):
    """The output folder of an ablation, with a training run per subfolder."""

    kind = "ablation"
    growing = ("networks", "data")

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

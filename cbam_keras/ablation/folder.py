"""The output folder of an ablation, and what its runs have in common."""

import dataclasses
import json

import keras

from cbam_keras import _files, _run_folder, plotting


class Ledger:
    """`results.json` of an ablation: what its runs have in common."""

    def __init__(self, output, resume):
        self.output = _files.folder_path(output)
        self.path = self.output / "results.json"
        self.content = {"ablation": {}, "versions": _run_folder.versions()}
        if self.path.exists():
            self.content = self._read(resume)
        elif _files.contents(self.output):
            raise ValueError(
                "`output` must be a new or empty folder, or that of an "
                f'ablation. Received: output="{self.output}", which holds '
                "other files"
            )
        _files.output_folder(self.output)

    def _read(self, resume):
        try:
            content = json.loads(self.path.read_text())
            found = isinstance(content.get("ablation"), dict)
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f'The ablation in output="{self.output}" cannot be resumed: '
                f"results.json is damaged ({error}). Without that file and "
                "in a new folder it starts again"
            ) from error
        if not found:
            raise ValueError(
                "`output` must be a new or empty folder, or that of an "
                f'ablation. Received: output="{self.output}", which holds '
                "another run"
            )
        if not resume:
            raise ValueError(
                "`output` must be a new or empty folder unless the ablation "
                f'in it is resumed. Received: output="{self.output}", '
                "resume=False"
            )
        return content

    def begin(self, label, recipe, networks, images):
        settings = dataclasses.asdict(recipe)
        del settings["seed"]
        self._agree(
            {
                "model": label,
                "recipe": settings,
                "backend": keras.backend.backend(),
                "networks": networks,
                "data": {str(images.seed): images.describe()},
            }
        )

    def add_data(self, images):
        """Adds the data of one seed more."""
        data = {str(images.seed): images.describe()}
        self._agree({**self.content["ablation"], "data": data})

    def _agree(self, settings):
        """Adds settings to those written down; raises where they differ."""
        settings = _run_folder.as_written(settings)
        before, old, new = self.content["ablation"], {}, {}
        for key, value in settings.items():
            if key in ("networks", "data"):
                # These may grow: compared is what was there before.
                known = before.get(key, {})
                old[key] = {k: known[k] for k in known if k in value}
                new[key] = {k: value[k] for k in known if k in value}
                settings[key] = {**known, **value}
            elif before:
                old[key], new[key] = before.get(key), value
        if changed := _run_folder.differences(old, new):
            raise ValueError(
                "An ablation must be resumed with the settings it was "
                f'started with. Received: output="{self.output}", changed: '
                + "; ".join(changed)
            )
        self.content["ablation"] = settings
        _files.write_json(self.path, self.content)

    def finish(self, results):
        """Writes the tables, the figure, and the rows as JSON."""
        for name, text in (
            ("tables.md", results.markdown()),
            ("tables.csv", results.csv()),
            ("tables.tex", results.latex()),
        ):
            with _files.replacing(self.output / name) as beside:
                beside.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        figure = plotting.plot_ablation(results, results.title)
        with _files.replacing(self.output / "ablation.png") as beside:
            figure.savefig(beside, dpi=150)
        self.content.update(json.loads(results.json()))
        _files.write_json(self.path, self.content)

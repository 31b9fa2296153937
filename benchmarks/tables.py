"""Writes what was measured into the tables of the pages.

    python -m benchmarks.tables
    python -m benchmarks.tables runs/bench/*.json

What stands between `<!-- table: NAME -->` and `<!-- /table -->` in a page is
rendered from `measured.jsonl` and `when_it_helps.jsonl`; a test fails where it
differs. `TABLES` has the names. Any other name is that of a line of
`measured.jsonl`, whose `rows` are the cells of a table. Files that `networks`,
`small_network` and `layers` wrote are stored there first, each in place of what
was measured before in the same mode and precision on the same device. `commit`
is that of the code, in older lines that of the page that had the numbers first.
"""

import functools
import json
import pathlib
import re
import statistics
import sys

from benchmarks import when_it_helps

ROOT = pathlib.Path(__file__).parent.parent
STORED = ROOT / "benchmarks" / "measured.jsonl"
PAGES = ("*.md", "docs/*.md", "docs/guides/*.md", "benchmarks/*.md")
MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- /table -->)", re.S)
# Measurements that differ in one of them do not replace each other.
KEYS = ("benchmark", "devices", "dtype", "mode")
VERSIONS = {
    "tensorflow": "TensorFlow",
    "jax": "JAX",
    "torch": "PyTorch",
    "keras": "Keras",
}
TITLES = VERSIONS | {
    "tensorflow-graph": "TensorFlow",
    "tensorflow-xla": "TensorFlow, XLA",
    "torch-compile": "`torch.compile`",
    "se": "SE",
    "spatial": "spatial gate",
    "cbam": "CBAM",
    "cbam-paper": "CBAM, the paper's initialization",
    "cbam-not-normalized": 'CBAM, `insert_attention(model, "cbam")`',
    "naive": "naive CBAM",
    "none": "no attention",
    "none-wide": "no attention, 25 % more channels",
    "none-longer": "no attention, trained for longer",
    "none-slow": "no attention, wider or trained for longer",
    "eca": "ECA",
    "coordinate": "coordinate attention",
    "channel": "channel gate",
    "simam": "SimAM",
    "bam": "BAM",
    "scse": "scSE",
    "gc": "global context",
    "triplet": "triplet attention",
    "digits": "digits among clutter",
    "articles": "clothing among clutter",
    "fashion": "Fashion-MNIST",
    "few": "Fashion-MNIST, 1,800 training images",
    "cifar10": "CIFAR-10 from scratch",
    "photographs": "photographs of CIFAR-10, pretrained network",
    "solar-cells": "solar cells, pretrained network",
    "camvid": "CamVid, U-Net",
    "bccd": "blood cells, detection",
    "tuned-stage1": "Fashion-MNIST, pretrained network, new layers",
    "tuned-stage2": "the same, then all layers",
}


def stored():
    return [*map(json.loads, STORED.read_text("utf-8").splitlines())]


def store(record):
    """Adds what a benchmark wrote, in place of what it wrote before."""
    # The times at each shape, of which `over_ours` has the means.
    record.pop("shapes", None)
    new = [record.get(key) for key in KEYS]
    kept = [x for x in stored() if [x.get(key) for key in KEYS] != new]
    lines = [json.dumps(x, ensure_ascii=False) for x in [*kept, record]]
    STORED.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def markdown(rows, records=()):
    """Returns rows of cells as a table, and on what they were measured."""
    lines = [
        f"| {' | '.join(x)} |" for x in (rows[0], *(y.values() for y in rows))
    ]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    text = "\n".join(lines)
    parts = {}
    for record in records:
        cores = f", {record['cores']} cores" if "cores" in record else ""
        parts |= {f"{device}{cores}": 0 for device in record["devices"]}
    parts |= {x["dtype"]: 0 for x in records if "dtype" in x}
    for key, name in VERSIONS.items():
        parts |= {f"{name} {x[key]}": 0 for x in records if key in x}
    parts |= {f"commit {x['commit']}": 0 for x in records if x.get("commit")}
    parts |= {f"`{x['command']}`": 0 for x in records if x.get("command")}
    return text + f"\n\nMeasured on {'; '.join(parts)}." * bool(parts)


def measured(benchmark, cells):
    """Returns a table for each device and precision of a benchmark.

    `cells` yields the first cell, and the text, of each row of a record.
    """
    groups = {}
    for record in stored():
        if record.get("benchmark") == benchmark:
            key = str([record.get(key) for key in KEYS[:-1]])
            groups.setdefault(key, []).append(record)
    texts = []
    for records in groups.values():
        modes = dict.fromkeys(TITLES[x["mode"]] for x in records)
        rows = {}
        for record in records:
            for name, text in cells(record):
                new = {"": name, **dict.fromkeys(modes, "")}
                row = rows.setdefault(name, new)
                row[TITLES[record["mode"]]] = text
        texts.append(markdown([*rows.values()], records))
    return "\n\n".join(texts)


def added(record):
    """Yields how much time attention adds to each network."""
    for row in record["rows"]:
        if row["kind"] != "none":
            # Several are those of several runs.
            ratios = row["ratio"]
            ratios = ratios if isinstance(ratios, list) else [ratios]
            text = " to ".join(f"{100 * x - 100:+.0f}" for x in ratios)
            yield f"{row['what']}, {TITLES[row['kind']]}", f"{text} %"


def over_ours(record):
    """Yields the time of layers in that of CBAM, forward and in training."""
    forward, training = record["over_ours"].values()
    for name in training:
        if name != "CBAM":
            title = TITLES.get(name, name)
            yield title, f"{forward[name]:.1f}, {training[name]:.1f}"


def difference(row, none, digits=2):
    """Returns the difference of a network to no attention, in points."""
    if row is None or row.difference is None:
        return ""
    text = f"{100 * row.difference:+.{digits}f}"
    # Fewer seeds tell too little of the next one.
    if row.pairs > 2 and row.interval is not None:
        half = 50 * (row.interval[1] - row.interval[0])
        text += f" ± {half:.{digits}f}"
    if row.pairs < len(none.values):
        text += f" ({row.pairs} seed{'s' * (row.pairs > 1)})"
    return text


def differences(names, variants):
    """Returns differences to no attention, a row for each study."""
    rows, studies = [], when_it_helps.stored()
    for name in names:
        results = when_it_helps.results_of(studies[name])
        found = results.compared()
        none = found["none"]
        row = {
            "data": TITLES[name],
            "seeds": f"{len(none.values)}{' folds' * bool(results.folds)}",
            "none (%)": f"{100 * none.mean:.2f}",
        }
        # Each study has one plain network that takes as long or longer.
        slow = next((x for x in SLOW if x in found), None)
        found["none-slow"] = found.get(slow)
        cells = {TITLES[x]: difference(found.get(x), none) for x in variants}
        rows.append(row | cells)
    return markdown(rows)


def networks(name):
    """Returns the networks of one study, with measures and differences."""
    found = when_it_helps.results_of(when_it_helps.stored()[name])
    frozen = found.settings.get("recipe", {}).get("frozen_epochs")
    first, *others = found.measures
    compared = {x: found.compared(x) for x in found.measures}
    rows, none = [], compared[first]["none"]
    for network, row in compared[first].items():
        cells = {
            "network": TITLES[network],
            f"{first.heading} (%)": f"{100 * row.mean:.{first.digits}f}",
            "difference in points": difference(row, none, first.digits),
        }
        for measure in others:
            mean = compared[measure][network].mean
            text = f"{100 * mean:.{measure.digits}f}"
            cells[f"{measure.heading} (%)"] = text
        if frozen and first.key == "test_accuracy":
            best = [
                run.history[frozen - 1]["val_accuracy"]
                for run in found.runs
                if run.network == network and run.history
            ]
            text = f"{100 * statistics.mean(best):.1f}"
            cells["validation accuracy after the frozen epochs (%)"] = text
        rows.append(cells)
    return markdown(rows)


def curves(found):
    """Returns means over the seeds by epoch, and what had not converged."""
    lines = []
    for name in found.variants:
        runs = [x.history for x in found.runs if x.variant == name]
        if not any(runs):
            continue
        shown = ("val_accuracy", "val_miou", "loss")
        key = next(x for x in shown if x in runs[0][0])
        epochs = zip(*([row[key] for row in run] for run in runs), strict=True)
        means = [*map(statistics.mean, epochs)]
        last = means[-1] - means[-1 - len(means) // 4]
        # The last quarter of a converged network brings less than a tenth.
        is_converged = abs(last) < 0.1 * abs(means[-1] - means[0])
        end = "" if is_converged else ", not converged"
        curve = " ".join(f"{x:.3f}" for x in means)
        lines.append(f"- {name}, {key} by epoch: {curve}{end}")
    return "\n".join(lines)


def studies():
    """Returns tables and learning curves of all that is stored."""
    parts = []
    for name, content in when_it_helps.stored().items():
        found = when_it_helps.results_of(content)
        parts += [f"### {name}", found.markdown(), curves(found)]
    return "\n\n".join(filter(None, parts))


FINE_TUNED = ("photographs", "solar-cells")
DENSE = ("camvid", "bccd")
MEASURED = (*FINE_TUNED, *DENSE, "cifar10")
DRAWN = ("digits", "articles", "fashion")
TUNED = ("tuned-stage1", "tuned-stage2")
SLOW = ("none-wide", "none-longer")
WIDE = ("spatial", "cbam", "none-slow")
TABLES = {
    "networks": functools.partial(measured, "networks", added),
    "small-network": functools.partial(measured, "small_network", added),
    "layers": functools.partial(measured, "layers", over_ours),
    "differences": functools.partial(
        differences, (*DRAWN, "few", *TUNED), ("se", *WIDE)
    ),
    "differences-short": functools.partial(
        differences, (*MEASURED, *DRAWN[:2]), WIDE
    ),
    "differences-by-kind": functools.partial(
        differences, MEASURED, when_it_helps.KINDS[1:]
    ),
    "inserted": functools.partial(
        differences, TUNED, ("spatial", "cbam", "cbam-not-normalized")
    ),
    "studies": studies,
    **{name: functools.partial(networks, name) for name in MEASURED},
}


def table(name):
    if name in TABLES:
        return TABLES[name]()
    for record in stored():
        if record.get("name") == name:
            return markdown(record["rows"], [record])
    raise ValueError(
        f"A table must be one of {', '.join(TABLES)}, or have a line in "
        f"{STORED.name}. Received: {name!r}"
    )


def page(text):
    """Returns the text of a page with its tables."""
    return MARKED.sub(lambda x: f"{x[1]}\n{table(x[2])}\n\n{x[3]}", text)


def pages():
    """Returns the texts of all pages with tables, by their paths."""
    paths = [path for pattern in PAGES for path in ROOT.glob(pattern)]
    texts = {path: path.read_text("utf-8") for path in paths}
    return {x: page(text) for x, text in texts.items() if MARKED.search(text)}


def main():
    for path in sys.argv[1:]:
        store(json.loads(pathlib.Path(path).read_text("utf-8")))
    for path, text in pages().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()

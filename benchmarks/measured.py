"""What was measured, `measured.jsonl`, and its tables.

A line holds what `networks`, `small_network`, `layers` or `job` wrote, each in
place of what was measured before in the same mode and precision on the same
device.
Any other line is a table written by hand: `rows` are its cells. `commit` is
that of the code, in older lines that of the page that had the numbers first.
Pages show part of it: what a reader decides by.
"""

import functools
import json
import pathlib
import re

from benchmarks import results

STORED = pathlib.Path(__file__).with_suffix(".jsonl")
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
    "naive": "naive CBAM",
    "none": "no attention",
    "eca": "ECA",
    "coordinate": "coordinate attention",
    "channel": "channel gate",
    "simam": "SimAM",
    "bam": "BAM",
    "scse": "scSE",
    "gc": "global context",
    "triplet": "triplet attention",
    "authors, PyTorch": "CBAM, the authors' code in PyTorch",
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
    text = results.table(rows)
    places = {}
    for record in records:
        # Older records name no processor.
        devices = [x for x in record["devices"] if x != "a CPU"]
        cores = f", {record['cores']} cores" if "cores" in record else ""
        places |= {f"{device}{cores}": 0 for device in devices}
    parts = {x["dtype"]: 0 for x in records if "dtype" in x}
    for key, name in VERSIONS.items():
        parts |= {f"{name} {x[key]}": 0 for x in records if key in x}
    parts |= {f"commit {x['commit']}": 0 for x in records if x.get("commit")}
    parts |= {f"`{x['command']}`": 0 for x in records if x.get("command")}
    if not records:
        return text
    start = "on" if places else "with"
    return f"{text}\n\nMeasured {start} {'; '.join([*places, *parts])}."


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


def added(kinds, record):
    """Yields how much time attention adds to each network.

    Percentages are multiples of 5: machines of one kind differ by more.
    """
    for row in record["rows"]:
        if row["kind"] in kinds:
            # Several are those of several runs.
            ratios = row["ratio"]
            ratios = ratios if isinstance(ratios, list) else [ratios]
            percents = [f"{5 * round(20 * x - 20):+}" for x in ratios]
            text = " to ".join(dict.fromkeys(percents))
            yield f"{row['what']}, {TITLES[row['kind']]}", f"{text}%"


def over_naive(record):
    """Yields what CBAM adds to a step, divided by what naive CBAM adds."""
    added = {(x["what"], x["kind"]): x["added"] for x in record["rows"]}
    for what in dict.fromkeys(row["what"] for row in record["rows"]):
        yield what, f"{added[what, 'cbam'] / added[what, 'naive']:.2f}"


def over_ours(record):
    """Yields the time of layers in that of CBAM, forward and in training."""
    forward, training = record["over_ours"].values()
    for name in training:
        if name not in ("CBAM", *SPARSE):
            title = TITLES.get(name, name)
            yield title, f"{forward[name]:.1f}, {training[name]:.1f}"


def job():
    """Returns the times of the first command, in whole seconds."""
    (record,) = (x for x in stored() if x.get("benchmark") == "job")
    rows = [
        {"": row[""], "all (s)": f"{float(row['all (s)']):.0f}"}
        for row in record["rows"]
    ]
    return markdown(rows, [record])


def find_record(name):
    """Returns the line of a table that was written by hand."""
    return next(x for x in stored() if x.get("name") == name)


def by_hand(name, columns=None, shown=None):
    """Returns a table that was written by hand, or part of it.

    `columns` are the headings to show, and `shown` tells of a row whether it
    is shown.
    """
    record = find_record(name)
    rows = [
        {key: row[key] for key in columns or row}
        for row in filter(shown, record["rows"])
    ]
    return markdown(rows, [record])


def means(name):
    """Returns a table that was written by hand, without each of the seeds."""
    return re.sub(r"(\d) \(\d.*?\)", r"\1", by_hand(name))


def is_large(row):
    """Returns whether a row is of 16 images, or the mean of these rows."""
    return row["features"].startswith(("16x", "geometric"))


def ablation():
    """Returns the errors of the paper's comparisons in one table."""
    records = [*map(find_record, ABLATIONS)]
    rows = [
        {"Table": str(number)}
        | {heading: row[key] for key, heading in ABLATION_COLUMNS.items()}
        for number, record in enumerate(records, 1)
        for row in record["rows"]
    ]
    return markdown(rows, records)


def simulated():
    """Returns false claims and power of comparisons in one table."""
    records = [*map(find_record, ("false-claims", "simulated-power"))]
    rows = []
    for claims, power in zip(*(x["rows"] for x in records), strict=True):
        rows.append({**power, "false claims": claims["same test images"]})
    return markdown(rows, records)


# They are not meant for every block.
SPARSE = ("bam", "scse")
ABLATIONS = [f"ablation-{number}" for number in range(1, 4)]
# What records call the columns, and what they are called here.
ABLATION_COLUMNS = {
    "description": "description",
    "top-1 error (%)": "top-1 error (%)",
    "difference (95 %)": "difference (95%)",
}
TABLES = {
    "job": job,
    "networks": functools.partial(
        measured, "networks", functools.partial(added, ("se", "cbam"))
    ),
    "small-network": functools.partial(
        measured,
        "small_network",
        over_naive,
    ),
    "layers": functools.partial(measured, "layers", over_ours),
    "ablation": ablation,
    "simulated": simulated,
    "looking": functools.partial(means, "looking"),
    "inserted-digits": functools.partial(means, "inserted-digits"),
    **{
        name: functools.partial(by_hand, name, shown=is_large)
        for name in ("layers-training", "layers-inference")
    },
    "startup": functools.partial(
        by_hand,
        "startup",
        ("", "10 steps (s)", "300 steps (s)"),
        lambda row: row[""].endswith(("no attention", ", CBAM", "a class")),
    ),
    "exports-cost": functools.partial(
        by_hand,
        "exports-cost",
        (
            "exported under",
            "attention",
            "time, `tiny`, 1 / 16 images",
            "time, `small`, 1 / 16 images",
        ),
        lambda row: row["attention"] != "none",
    ),
}

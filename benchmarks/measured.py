"""What was measured, `measured.jsonl`, and its tables.

A line holds what `networks`, `small_network`, `layers` or `job` wrote, each in
place of what was measured before in the same mode and precision on the same
device.
Any other line is a table written by hand: `rows` are its cells. `commit` is
that of the code, in older lines that of the page that had the numbers first.
"""

import functools
import json
import pathlib

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


def of_job(key):
    """Returns a table that `job` wrote, as it is."""
    (record,) = (x for x in stored() if x.get("benchmark") == "job")
    return markdown(record[key], [record])


TABLES = {
    "job": functools.partial(of_job, "rows"),
    "job-steps": functools.partial(of_job, "steps"),
    "networks": functools.partial(measured, "networks", added),
    "small-network": functools.partial(measured, "small_network", added),
    "layers": functools.partial(measured, "layers", over_ours),
}

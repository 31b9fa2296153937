"""Reports of `check` as other programs read them."""

import json
from collections.abc import Iterable, Iterator

from cbam_keras.recognition.reports import CheckedGate, CheckReport
from cbam_keras.recognition.verdicts import CheckState


def as_json(reports: Iterable[CheckReport]) -> str:
    """Returns the rows of reports as JSON, and whether all passed."""
    reports = [*reports]
    gates = [
        # JSON has no NaN.
        {name: None if x != x else x for name, x in row.record.items()}
        for report in reports
        for row in report.rows
    ]
    passed = all(report.passed for report in reports)
    return json.dumps({"passed": passed, "gates": gates}, indent=2)


def as_annotations(reports: Iterable[CheckReport]) -> str:
    """Returns a line for each row that has not passed, as GitHub shows them.

    What could not be analyzed is a warning, and all else an error. Where there
    is no attention, that is an error.
    """
    lines: list[str] = []
    for report in reports:
        lines += map(_annotation, (x for x in report.rows if not x.passed))
        if not report.passed and all(x.passed for x in report.rows):
            lines.append(f"::error::{_escaped(report.verdict)}")
    return "\n".join(lines)


def _annotation(row: CheckedGate) -> str:
    is_known = row.state != CheckState.NOT_ANALYZED
    properties = {"title": f"{row.gate}: {row.state}"}
    if row.file:
        properties = {"file": row.file, "line": str(row.line), **properties}
    fields = ",".join(
        f"{name}={_escaped(value, ':,')}" for name, value in properties.items()
    )
    message = "; ".join(filter(None, [row.verdict, row.note]))
    level = "error" if is_known else "warning"
    return f"::{level} {fields}::{_escaped(message)}"


def _escaped(text: str, others: str = "") -> str:
    """Returns text of one line, in which some characters are numbers."""
    for character in f"%\r\n{others}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def next_steps(reports: Iterable[CheckReport]) -> Iterator[str]:
    """Yields what a user may do next, by what is in the reports."""
    states = {row.state for report in reports for row in report.rows}
    if states & {CheckState.FAULTY, CheckState.MISNAMED}:
        yield (
            "Next: correct what the verdict reports. In a trained network, "
            'insert_attention(model, "cbam", instead_of=NAME) replaces it.'
        )
    if CheckState.NOT_ANALYZED in states:
        yield (
            "Next: put what is missing beside the file, or check the network "
            "that your code builds: insertion.check(model)."
        )
    if not states & {*CheckState} - {CheckState.PASSED} and states:
        yield (
            "Next: insertion.adopt(model) converts these modules to cbam_keras "
            "layers, with their weights."
        )

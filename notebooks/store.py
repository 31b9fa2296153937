"""Executes notebooks and stores their outputs without machine-specific data.

python notebooks/store.py notebooks/01_add_cbam_to_your_model.ipynb
"""

import pathlib
import sys
import tempfile
import time

import nbclient
import nbformat

METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def run(path):
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        nbclient.NotebookClient(
            notebook,
            timeout=1800,
            record_timing=False,
            resources={"metadata": {"path": folder}},
            # Keeps the messages of TensorFlow's C++ code out of the outputs.
            extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        ).execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    nbformat.write(notebook, path)


def joined(outputs):
    """Returns outputs with consecutive pieces of printed text merged."""
    whole = []
    for output in outputs:
        last = whole[-1] if whole else {}
        if output.get("name") and output["name"] == last.get("name"):
            last["text"] += output["text"]
        else:
            whole.append(output)
    return whole


if __name__ == "__main__":
    for name in sys.argv[1:]:
        start = time.perf_counter()
        run(pathlib.Path(name))
        print(f"{name}: {time.perf_counter() - start:.0f} s")

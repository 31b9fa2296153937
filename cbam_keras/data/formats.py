"""Formats that `load` does not read, and the package that reads each."""

import collections
import os
import pathlib
from collections.abc import Iterable

# The call that reads a file into an array, by the file's ending.
READERS = {
    ".dcm": "pydicom.dcmread(path).pixel_array",
    ".nii": "nibabel.load(path).get_fdata()",
    ".nii.gz": "nibabel.load(path).get_fdata()",
    ".mha": "SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))",
    ".nrrd": "SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))",
    ".mat": "scipy.io.loadmat(path)",
    ".arff": "scipy.io.arff.loadarff(path)",
    ".wav": "scipy.io.wavfile.read(path)",
    ".dat": "numpy.loadtxt(path)",
    ".edf": "mne.io.read_raw_edf(path).get_data()",
    ".h5": "h5py.File(path)",
    ".hdf5": "h5py.File(path)",
    ".parquet": "pandas.read_parquet(path)",
    ".heic": "pillow_heif.read_heif(path)",
    ".dng": "rawpy.imread(path).postprocess()",
    ".nef": "rawpy.imread(path).postprocess()",
    ".tif": "tifffile.imread(path)",
}


def find_ending(name: str) -> str:
    """Returns the ending of a file name, of both parts if it is compressed."""
    path = pathlib.PurePath(name.lower())
    return "".join(path.suffixes[-2 if path.suffix == ".gz" else -1 :])


def describe_readers(names: Iterable[str | os.PathLike]) -> str:
    """Returns which files are not read and how to read them, "" if none are.

    Args:
        names: The names or paths of files of any kind.
    """
    endings = collections.Counter(find_ending(str(name)) for name in names)
    unread = [
        ending for ending, _ in endings.most_common() if ending in READERS
    ]
    if not unread:
        return ""
    ending = unread[0]
    return (
        f"{endings[ending]:,} {ending} files, which are not read here. Read "
        f"each with {READERS[ending]}, and pass arrays: "
        "data.load((arrays, labels))"
    )

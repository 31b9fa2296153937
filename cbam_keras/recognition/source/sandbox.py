"""What the process that executes definitions of strangers may not do.

It stops accidents and plain harm; it is not a jail for a determined attacker.
Three guards stand one behind another:

1. Landlock, by which Linux refuses writes outside of one folder, programs, TCP
   and signals, to code in C, too.
2. A hook on Python's audit events, which lists what is harmless, and refuses
   all else.
3. Limits of memory and of the size of files.

Reading is not refused: a gate may need any file, and what is read has no way
out but the message in a row.

This file is executed as a script, which imports nothing but Python's library
before `lock`: Landlock covers only those threads that start later.
"""

import contextlib
import ctypes
import os
import re
import stat
import struct
import sys
from collections.abc import Callable
from typing import Any

# A process does not get more memory, nor more than half of the machine's.
MOST_MEMORY = 8 * 2**30
MOST_FILE_SIZE = 16 * 2**20

# What Landlock refuses, by the version of its interface, and the version of
# Linux that brought it.
BY_LANDLOCK = {
    1: "writing files and starting programs (Linux 5.13)",
    3: "truncating files (Linux 6.2)",
    4: "opening TCP connections (Linux 6.7)",
    6: "sending signals to other processes (Linux 6.12)",
}
# Numbers of system calls, the same for all architectures.
CREATE_RULESET = 444
ADD_RULE = 445
RESTRICT_SELF = 446
ASK_VERSION = 1
BENEATH_A_PATH = 1
NO_NEW_PRIVILEGES = 38
# Bits of rights on files, by the version that brought them: all but reading.
EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
REMOVE_AND_MAKE = 0x1FF0
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_OF_DEVICES = 1 << 15
RIGHTS = {
    1: EXECUTE | WRITE_FILE | REMOVE_AND_MAKE,
    2: REFER,
    3: TRUNCATE,
    5: IOCTL_OF_DEVICES,
}
# To bind and to connect; sockets without a file, and signals.
TCP = 3
SCOPES = 3

# Events that change nothing outside of the process.
HARMLESS = re.compile(
    r"import|compile|exec|time\.sleep|"
    r"(array|builtins|code|cpython|function|gc|glob|marshal|mmap|object|"
    r"pathlib|pickle|sys\._\w+|tempfile|_thread)\b.*|"
    r"os\.(listdir|scandir|walk|fwalk|getxattr|listxattr|putenv|unsetenv|"
    r"add_dll_directory)|"
    # Events of what they do follow.
    r"shutil\.(rmtree|copyfile|copymode|copystat|copytree|move)|"
    r"socket\.gethostname|sys\.(excepthook|unraisablehook)|"
    r"sys\.set_asyncgen_hooks_\w+|"
    r"winreg\.(ConnectRegistry|Enum\w+|ExpandEnvironmentStrings|OpenKey.*|"
    r"PyHKEY\.Detach|Query\w+)"
)
# Events of paths that may be in the folder of the process: how many paths come
# first, and where open folders are that these start from.
ON_PATHS = {
    "os.remove": (1, [1]),
    "os.rmdir": (1, [1]),
    "os.mkdir": (1, [2]),
    "os.rename": (2, [2, 3]),
    "os.chmod": (1, [2]),
    "os.utime": (1, [3]),
    "os.truncate": (1, []),
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def lock(folder: str) -> list[str]:
    """Has Linux refuse what reaches out of a folder, and returns what it lacks.

    That holds for this thread and for those that it starts, for ever.
    """
    version = 0
    if sys.platform == "linux":
        # Linux may be older, or its administrator may have disabled it.
        with contextlib.suppress(AttributeError, OSError):
            version = _landlock(folder)
    return [what for since, what in BY_LANDLOCK.items() if version < since]


def _landlock(folder):
    """Restricts this thread, and returns the version of the interface."""
    library = ctypes.CDLL(None, use_errno=True)

    def call(*args):
        # Numbers of a variable argument list have the size of a pointer.
        words = [ctypes.c_long(x) if isinstance(x, int) else x for x in args]
        result = library.syscall(*words)
        if result < 0:
            raise OSError(ctypes.get_errno(), "Landlock is not available")
        return result

    version = call(CREATE_RULESET, None, 0, ASK_VERSION)
    rights = sum(bits for since, bits in RIGHTS.items() if since <= version)
    tcp = TCP if version >= 4 else 0
    scopes = SCOPES if version >= 6 else 0
    attributes = struct.pack("QQQ", rights, tcp, scopes)
    rules = call(CREATE_RULESET, attributes, len(attributes), 0)
    allowed = {
        folder: rights & ~EXECUTE,
        os.devnull: rights & (WRITE_FILE | TRUNCATE),
    }
    for path, bits in allowed.items():
        place = os.open(path, os.O_PATH)
        rule = struct.pack("=Qi", bits, place)
        call(ADD_RULE, rules, BENEATH_A_PATH, rule, 0)
        os.close(place)
    # Linux demands that the process can gain no privileges.
    library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    call(RESTRICT_SELF, rules, 0)
    os.close(rules)
    return version


def limit() -> None:
    """Limits memory and the size of files, where the system can."""
    # Windows lacks it.
    with contextlib.suppress(ImportError):
        import resource

        pages = os.sysconf("SC_PHYS_PAGES")
        memory = pages * os.sysconf("SC_PAGE_SIZE")
        limits = {
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: MOST_FILE_SIZE,
            resource.RLIMIT_DATA: min(MOST_MEMORY, memory // 2),
        }
        for kind, most in limits.items():
            # A lower limit may hold already.
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(kind, (most, most))


def protect(folder: str) -> None:
    """Sets the limits, and refuses what Python reports, but in a folder."""
    limit()
    sys.addaudithook(_hook(folder))


def _hook(folder: str) -> Callable[[str, tuple[Any, ...]], None]:
    places = (folder, os.devnull)
    inside = tuple(os.path.realpath(place) + os.sep for place in places)
    # It keeps its own names, since a definition may change this module.
    is_harmless = HARMLESS.fullmatch
    on_paths = dict(ON_PATHS)
    writes = WRITES
    is_folder = _is_folder
    realpath = os.path.realpath
    decode = os.fsdecode
    separator = os.sep

    def is_inside(path):
        return (realpath(decode(path)) + separator).startswith(inside)

    def is_allowed(event, args):
        if event == "open":
            path, _, flags = args
            # It is open already.
            if isinstance(path, int):
                return True
            # Paths could start from a folder that is open.
            reaches_out = flags & writes or is_folder(path)
            return not reaches_out or is_inside(path)
        if event in on_paths:
            count, folders = on_paths[event]
            starts = [args[i] for i in folders if i < len(args)]
            if any(start not in (-1, None) for start in starts):
                return False
            paths = args[:count]
            # Only what is in the folder can be open for writing.
            return all(isinstance(x, int) or is_inside(x) for x in paths)
        return False

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if is_harmless(event) or is_allowed(event, args):
            return
        first = args[0] if args else None
        what = event
        if isinstance(first, str | bytes | os.PathLike):
            what += f" {decode(first)!r}"
        raise PermissionError(f"{what} is not allowed in checked source")

    return audit


def _is_folder(path):
    with contextlib.suppress(OSError, ValueError):
        return stat.S_ISDIR(os.stat(path).st_mode)
    return False


if __name__ == "__main__":
    lacking = lock(os.getcwd())
    sys.path.insert(0, sys.argv[1])
    from cbam_keras.recognition.source.process import main

    main(lacking, protect)

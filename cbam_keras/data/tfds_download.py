"""Datasets of TensorFlow Datasets, downloaded and prepared."""

import os
import pathlib
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any

from cbam_keras import _checks

# Seconds to wait for a host. TensorFlow Datasets itself retries for minutes.
TIMEOUT = 3
# Hosts that are tried.
MAX_HOSTS = 4


def not_prepared(
    builder: Any, name: str, manual_dir: str | os.PathLike | None
) -> str:
    """Returns the message for a dataset that is not on this machine."""
    text = (
        f'The dataset "{name}" is not prepared in '
        f"{builder.data_dir}. Received: download=False. Pass download=True "
        "(--download on the command line) to download and prepare it, or "
        "data_dir= (--data-dir), the folder that holds it"
    )
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        text += (
            ". Its files must be downloaded by hand, into "
            f"{_manual_folder(builder, manual_dir)}: "
            f"{_instructions(builder)}"
        )
    return text


def _instructions(builder):
    return " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())


def _manual_folder(builder, manual_dir):
    if manual_dir is not None:
        return pathlib.Path(manual_dir).expanduser()
    return pathlib.Path(builder._data_dir_root) / "downloads" / "manual"


def download_and_prepare(
    tf: Any,
    tfds: Any,
    builder: Any,
    name: str,
    manual_dir: str | os.PathLike | None,
) -> None:
    """Downloads a dataset, or raises at once with what is missing."""
    folder = _manual_folder(builder, manual_dir)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        if not folder.is_dir() or not any(folder.iterdir()):
            raise ValueError(
                f'The files of the dataset "{name}" must be downloaded by '
                "hand, into the folder manual_dir= (--manual-dir). Received: "
                f'manual_dir="{folder}", which is empty or missing. '
                f"{_instructions(builder)}"
            )
    else:
        hosts = _hosts(builder)
        if not reachable(hosts):
            raise ValueError(
                f'The dataset "{name}" cannot be downloaded: no answer from '
                f"{_checks.first_few(hosts)}. Received: download=True. "
                "Prepare it on a machine with network access and copy the "
                f"folder {builder.data_dir}, or pass another data_dir= "
                "(--data-dir)"
            )
    config = tfds.download.DownloadConfig(
        manual_dir=None if manual_dir is None else os.fspath(manual_dir),
        try_download_gcs=False,
    )
    try:
        builder.download_and_prepare(download_config=config)
    except (OSError, AssertionError, tf.errors.NotFoundError) as error:
        if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise
        raise ValueError(
            f'The files of the dataset "{name}" must be in the folder '
            f'manual_dir= (--manual-dir). Received: manual_dir="{folder}" '
            f"({error}). {_instructions(builder)}"
        ) from error


def _hosts(builder):
    """Returns the `host:port` of the downloads, or of the proxies for them."""
    proxies = urllib.request.getproxies()
    hosts = []
    for url in builder.url_infos:
        parts = urllib.parse.urlparse(url)
        if parts.hostname is None:
            continue
        if parts.scheme in proxies and not urllib.request.proxy_bypass(
            parts.hostname
        ):
            parts = urllib.parse.urlparse(proxies[parts.scheme])
        port = parts.port or (80 if parts.scheme == "http" else 443)
        hosts.append(f"{parts.hostname}:{port}")
    return sorted(set(hosts)) or ["storage.googleapis.com:443"]


def reachable(hosts: Iterable[str]) -> bool:
    """Returns whether one of the hosts accepts a connection."""
    found = threading.Event()

    def connect(host):
        name, port = host.rsplit(":", 1)
        try:
            socket.create_connection((name, int(port)), TIMEOUT).close()
        except OSError:
            return
        found.set()

    threads = [
        # Daemons: a name server that hangs must not keep Python from exiting.
        threading.Thread(target=connect, args=(host,), daemon=True)
        for host in list(hosts)[:MAX_HOSTS]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT + 1)
        if found.is_set():
            break
    return found.is_set()

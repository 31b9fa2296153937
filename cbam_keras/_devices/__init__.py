"""Several devices and processes that train one network.

- `devices`: `Distribution`, and the devices of this process.
- `processes`: how processes under JAX meet and end.
"""

from cbam_keras._devices.devices import (
    SINGLE_DEVICE,
    Devices,
    Distribution,
    connect,
    find_devices,
)

__all__ = [
    "SINGLE_DEVICE",
    "Devices",
    "Distribution",
    "connect",
    "find_devices",
]

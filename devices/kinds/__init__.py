"""The kinds of device by name: their points, event fields and commands, with ranges and units.

A kind is data, and each is a module of its own. Adding one means adding such a module and a rule pack; neither the
engine nor the edge knows any kind by name. Points follow the Zigbee2MQTT vocabulary.
"""

from collections.abc import Mapping
from types import MappingProxyType

from devices.kinds.button import BUTTON
from devices.kinds.charger import CHARGER
from devices.kinds.elevator import ELEVATOR
from devices.kinds.gateway import GATEWAY
from devices.kinds.smoke import SMOKE
from devices.kinds.sounders import BROADCAST, SIREN
from devices.kinds.traits import Kind

KINDS: Mapping[str, Kind] = MappingProxyType(
    {kind.name: kind for kind in (CHARGER, SMOKE, BUTTON, ELEVATOR, SIREN, BROADCAST, GATEWAY)}
)
"""Every kind by name. `gateway` is the gateway's own, never a topic."""

"""A routing policy: the longest prefix of the recipient chooses the carriers, in order."""

import json

from componentize_py_types import Err, Ok  # noqa: F401
from wit_world import exports
from wit_world.exports.plugin import Manifest
from wit_world.exports.routing_policy import Hop, Plan, Routing_Pass, Routing_Send

CARRIERS = {
    "type": "array",
    "minItems": 1,
    "maxItems": 8,
    "items": {"type": "string", "minLength": 1, "maxLength": 64},
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["routes"],
    "properties": {
        "routes": {
            "description": "Leading digits of the recipient to carriers, the preferred one first. The longest prefix decides.",
            "type": "object",
            "maxProperties": 1000,
            "propertyNames": {"pattern": "^[0-9]{1,8}$"},
            "additionalProperties": CARRIERS,
        },
        "otherwise": CARRIERS
        | {"description": "Carriers for recipients that no prefix matches; without it they are the next policy's."},
    },
}

routes: dict[str, list[str]] = {}
otherwise: list[str] = []


class Plugin(exports.Plugin):
    def describe(self) -> Manifest:
        return Manifest(
            name="prefix-router-python",
            version="0.1.0",
            summary="Routes by the longest prefix of the recipient.",
            config_schema=json.dumps(SCHEMA),
        )

    def configure(self, config: str) -> None:
        """The host has checked `config` against the schema. To refuse it, raise Err("why")."""
        global routes, otherwise
        parsed = json.loads(config)
        routes, otherwise = parsed["routes"], parsed.get("otherwise", [])


class RoutingPolicy(exports.RoutingPolicy):
    def route(self, message, carriers, context):
        rule, wanted = choose(message.recipient.prefix)
        connected = {carrier.id: carrier.connected for carrier in carriers}
        known = [id for id in wanted if id in connected]
        hops = [id for id in known if connected[id]] or known
        if not hops:
            return Routing_Pass()
        reason = f"{rule}: {', '.join(hops)}"
        skipped = [id for id in known if id not in hops]
        if skipped:
            reason += f"; not connected: {', '.join(skipped)}"
        return Routing_Send(Plan([Hop(id, None, None, []) for id in hops], reason))


def choose(digits: str) -> tuple[str, list[str]]:
    """The rule that holds for a recipient, and its carriers."""
    for length in range(len(digits), 0, -1):
        carriers = routes.get(digits[:length])
        if carriers:
            return f"prefix {digits[:length]}", carriers
    return "otherwise", otherwise

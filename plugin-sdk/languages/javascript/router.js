// A routing policy: the longest prefix of the recipient chooses the carriers, in order.

const SCHEMA = JSON.stringify({
  type: "object",
  additionalProperties: false,
  required: ["routes"],
  properties: {
    routes: {
      description: "Leading digits of the recipient to carriers, the preferred one first. The longest prefix decides.",
      type: "object",
      maxProperties: 1000,
      propertyNames: { pattern: "^[0-9]{1,8}$" },
      additionalProperties: { $ref: "#/$defs/carriers" },
    },
    otherwise: {
      description: "Carriers for recipients that no prefix matches; without it they are the next policy's.",
      $ref: "#/$defs/carriers",
    },
  },
  $defs: {
    carriers: { type: "array", minItems: 1, maxItems: 8, items: { type: "string", minLength: 1, maxLength: 64 } },
  },
});

let routes = new Map();
let otherwise = [];

export const plugin = {
  describe() {
    return {
      name: "prefix-router-javascript",
      version: "0.1.0",
      summary: "Routes by the longest prefix of the recipient.",
      configSchema: SCHEMA,
    };
  },

  // The host has checked `config` against the schema. To refuse it, throw a string.
  configure(config) {
    const parsed = JSON.parse(config);
    routes = new Map(Object.entries(parsed.routes));
    otherwise = parsed.otherwise ?? [];
  },
};

export const routingPolicy = {
  route(message, carriers, _context) {
    const [rule, wanted] = choose(message.recipient.prefix);
    const connected = new Map(carriers.map((carrier) => [carrier.id, carrier.connected]));
    const known = wanted.filter((id) => connected.has(id));
    const up = known.filter((id) => connected.get(id));
    const hops = up.length > 0 ? up : known;
    if (hops.length === 0) return { tag: "pass" };
    const skipped = known.filter((id) => !hops.includes(id));
    const without = skipped.length > 0 ? `; not connected: ${skipped.join(", ")}` : "";
    return {
      tag: "send",
      val: {
        hops: hops.map((carrier) => ({ carrier, originator: undefined, priceMicros: undefined, tlvs: [] })),
        reason: `${rule}: ${hops.join(", ")}${without}`,
      },
    };
  },
};

/** The rule that holds for a recipient, and its carriers. */
function choose(digits) {
  for (let length = digits.length; length > 0; length--) {
    const prefix = digits.slice(0, length);
    const carriers = routes.get(prefix);
    if (carriers) return [`prefix ${prefix}`, carriers];
  }
  return ["otherwise", otherwise];
}

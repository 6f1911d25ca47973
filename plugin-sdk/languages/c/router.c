// A routing policy: the longest prefix of the recipient chooses the carriers, in order.
// What is allocated here and returned is freed by the generated code once the host has read it.

#include <stdlib.h>
#include <string.h>

#include "prefix_router.h"

typedef prefix_router_string_t string;
typedef exports_heliograph_sms_routing_policy_carrier_t carrier;
typedef exports_heliograph_sms_routing_policy_hop_t hop;

enum { ROUTES_MAX = 1000, CARRIERS_MAX = 8, PREFIX_MAX = 8 };

typedef struct {
    string prefix;
    size_t count;
    string carriers[CARRIERS_MAX];
} route;

static route routes[ROUTES_MAX];
static size_t route_count;
static route otherwise;

static const char SCHEMA[] =
    "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"routes\"],\"properties\":{"
    "\"routes\":{\"description\":\"Leading digits of the recipient to carriers, the preferred one first. "
    "The longest prefix decides.\",\"type\":\"object\",\"maxProperties\":1000,"
    "\"propertyNames\":{\"pattern\":\"^[0-9]{1,8}$\"},\"additionalProperties\":{\"$ref\":\"#/$defs/carriers\"}},"
    "\"otherwise\":{\"description\":\"Carriers for recipients that no prefix matches; without it they are the "
    "next policy's.\",\"$ref\":\"#/$defs/carriers\"}},"
    "\"$defs\":{\"carriers\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":8,"
    "\"items\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":64,\"pattern\":\"^[^\\\"\\\\\\\\\\\\x00-\\\\x1f]*$\"}}}}";

void exports_heliograph_sms_plugin_describe(exports_heliograph_sms_plugin_manifest_t *ret) {
    prefix_router_string_dup(&ret->name, "prefix-router-c");
    prefix_router_string_dup(&ret->version, "0.1.0");
    prefix_router_string_dup(&ret->summary, "Routes by the longest prefix of the recipient.");
    prefix_router_string_dup(&ret->config_schema, SCHEMA);
}

// ---- configuration: the host checked it against the schema, so it is JSON of that shape, and no string in
// it holds an escape. What is read here is checked all the same, because a wrong step reads foreign memory.

typedef struct {
    const char *at, *end;
} reader;

static char next(reader *r) {
    while (r->at < r->end && strchr(" \t\r\n", *r->at)) r->at++;
    return r->at < r->end ? *r->at : 0;
}

static bool take(reader *r, char c) {
    if (next(r) != c) return false;
    r->at++;
    return true;
}

static bool read_string(reader *r, string *out) {
    if (!take(r, '"')) return false;
    const char *close = memchr(r->at, '"', r->end - r->at);
    if (!close) return false;
    out->ptr = (uint8_t *)r->at;
    out->len = close - r->at;
    r->at = close + 1;
    return true;
}

static bool read_carriers(reader *r, route *to) {
    if (!take(r, '[')) return false;
    for (to->count = 0; to->count < CARRIERS_MAX; to->count++) {
        if (!read_string(r, &to->carriers[to->count])) return false;
        if (!take(r, ',')) break;
    }
    to->count++;
    return to->count <= CARRIERS_MAX && take(r, ']');
}

static bool read_routes(reader *r) {
    if (!take(r, '{')) return false;
    if (take(r, '}')) return true;
    do {
        if (route_count == ROUTES_MAX) return false;
        route *to = &routes[route_count++];
        if (!read_string(r, &to->prefix) || !take(r, ':') || !read_carriers(r, to)) return false;
    } while (take(r, ','));
    return take(r, '}');
}

static bool is(const string *s, const char *text) {
    return s->len == strlen(text) && memcmp(s->ptr, text, s->len) == 0;
}

static bool read_config(reader *r) {
    if (!take(r, '{')) return false;
    do {
        string key;
        if (!read_string(r, &key) || !take(r, ':')) return false;
        if (is(&key, "routes") ? !read_routes(r) : !read_carriers(r, &otherwise)) return false;
    } while (take(r, ','));
    return take(r, '}');
}

bool exports_heliograph_sms_plugin_configure(string *config, string *err) {
    // Called once; the strings that are kept point into `config`, so it is not freed.
    reader r = {(const char *)config->ptr, (const char *)config->ptr + config->len};
    if (read_config(&r)) return true;
    prefix_router_string_dup(err, "routes or otherwise is not as the schema says");
    return false;
}

// ---- a decision

static const route *choose(const string *digits) {
    const route *best = NULL;
    for (size_t i = 0; i < route_count; i++) {
        const string *prefix = &routes[i].prefix;
        bool matches = prefix->len <= digits->len && memcmp(prefix->ptr, digits->ptr, prefix->len) == 0;
        if (matches && (!best || prefix->len > best->prefix.len)) best = &routes[i];
    }
    return best ? best : &otherwise;
}

static const carrier *find(const exports_heliograph_sms_routing_policy_list_carrier_t *all, const string *id) {
    for (size_t i = 0; i < all->len; i++)
        if (all->ptr[i].id.len == id->len && memcmp(all->ptr[i].id.ptr, id->ptr, id->len) == 0)
            return &all->ptr[i];
    return NULL;
}

static void append(string *to, const void *octets, size_t len) {
    memcpy(to->ptr + to->len, octets, len);
    to->len += len;
}

static void append_list(string *to, const char *lead, const carrier *const *list, size_t count) {
    append(to, lead, strlen(lead));
    for (size_t i = 0; i < count; i++) {
        if (i) append(to, ", ", 2);
        append(to, list[i]->id.ptr, list[i]->id.len);
    }
}

void exports_heliograph_sms_routing_policy_route(
    exports_heliograph_sms_routing_policy_message_t *message,
    exports_heliograph_sms_routing_policy_list_carrier_t *carriers,
    exports_heliograph_sms_routing_policy_context_t *context,
    exports_heliograph_sms_routing_policy_routing_t *ret) {
    const route *rule = choose(&message->recipient.prefix);
    const carrier *up[CARRIERS_MAX], *down[CARRIERS_MAX];
    size_t up_count = 0, down_count = 0, text = 64;
    for (size_t i = 0; i < rule->count; i++) {
        const carrier *known = find(carriers, &rule->carriers[i]);
        if (!known) continue;
        text += known->id.len + 2;
        if (known->connected) up[up_count++] = known;
        else down[down_count++] = known;
    }
    const carrier **hops = up_count ? up : down;
    size_t count = up_count ? up_count : down_count;
    if (count == 0) {
        ret->tag = EXPORTS_HELIOGRAPH_SMS_ROUTING_POLICY_ROUTING_PASS;
    } else {
        ret->tag = EXPORTS_HELIOGRAPH_SMS_ROUTING_POLICY_ROUTING_SEND;
        exports_heliograph_sms_routing_policy_plan_t *plan = &ret->val.send;
        plan->hops.len = count;
        plan->hops.ptr = calloc(count, sizeof(hop));
        for (size_t i = 0; i < count; i++)
            prefix_router_string_dup_n(&plan->hops.ptr[i].carrier, (const char *)hops[i]->id.ptr, hops[i]->id.len);
        string *reason = &plan->reason;
        reason->ptr = malloc(text);
        reason->len = 0;
        if (rule == &otherwise) append(reason, "otherwise", 9);
        else {
            append(reason, "prefix ", 7);
            append(reason, rule->prefix.ptr, rule->prefix.len);
        }
        append_list(reason, ": ", hops, count);
        if (up_count && down_count) append_list(reason, "; not connected: ", down, down_count);
    }
    exports_heliograph_sms_routing_policy_message_free(message);
    exports_heliograph_sms_routing_policy_list_carrier_free(carriers);
}

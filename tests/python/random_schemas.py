"""Random JSON schemas and instances, for comparing what is enforced with PyPI jsonschema."""

PATTERNS = ["^a", "b$", "^[a-c]{1,3}$", "a|b", "^(ab)*$", "[^a]", "^.{2}$"]
KEYS = ["a", "b", "ab", "c"]
SCALARS = [None, True, False, 0, 1, 2, -3, 7, 1.5, "", "a", "b", "ab", "abc", "aa"]
TYPES = ["null", "boolean", "number", "integer", "string", "array", "object"]


def instance(random, depth=2):
    kind = random.random()
    if depth == 0 or kind < 0.5:
        return random.choice(SCALARS)
    if kind < 0.75:
        return [instance(random, depth - 1) for _ in range(random.randrange(4))]
    return {key: instance(random, depth - 1) for key in KEYS if random.random() < 0.5}


def _numbers(random, schema):
    for name, values in (("minimum", [-4, 0, 1, 1.5]), ("maximum", [1, 2, 7, 12.25]), ("exclusiveMinimum", [-4, 0, 1]),
                         ("exclusiveMaximum", [2, 8]), ("multipleOf", [1, 2, 3, 0.5, 0.1])):
        if random.random() < 0.3:
            schema[name] = random.choice(values)


def _strings(random, schema):
    for name, values in (("minLength", [0, 1, 2]), ("maxLength", [1, 2, 3, 5]), ("pattern", PATTERNS)):
        if random.random() < 0.4:
            schema[name] = random.choice(values)


def _arrays(random, schema, depth):
    if random.random() < 0.4:
        schema["prefixItems"] = [make(random, depth - 1) for _ in range(random.randrange(1, 3))]
    for name in ("items", "contains", "unevaluatedItems"):
        if random.random() < (0.15 if name == "unevaluatedItems" else 0.35):
            schema[name] = make(random, depth - 1)
    for name, values in (("minItems", [0, 1, 2]), ("maxItems", [1, 2, 3]), ("uniqueItems", [True]),
                         ("minContains", [0, 2]), ("maxContains", [1, 2])):
        if random.random() < 0.25:
            schema[name] = random.choice(values)


def _objects(random, schema, depth):
    if random.random() < 0.7:
        schema["properties"] = {key: make(random, depth - 1) for key in KEYS if random.random() < 0.6}
    if random.random() < 0.3:
        schema["patternProperties"] = {random.choice(PATTERNS): make(random, depth - 1)}
    if random.random() < 0.2:
        schema["propertyNames"] = {"maxLength": 2} if random.random() < 0.5 else {"pattern": random.choice(PATTERNS)}
    for name in ("additionalProperties", "unevaluatedProperties"):
        if random.random() < 0.3:
            schema[name] = random.choice([False, make(random, depth - 1)])
    if random.random() < 0.4:
        schema["required"] = [key for key in KEYS if random.random() < 0.4]
    if random.random() < 0.15:
        schema["dependentRequired"] = {random.choice(KEYS): [random.choice(KEYS)]}
    if random.random() < 0.1:
        schema["dependentSchemas"] = {random.choice(KEYS): make(random, depth - 1)}
    for name, values in (("minProperties", [1, 2]), ("maxProperties", [1, 2, 3])):
        if random.random() < 0.2:
            schema[name] = random.choice(values)


def _combine(random, schema, depth):
    kind = random.randrange(7)
    if kind < 3:
        schema[("allOf", "anyOf", "oneOf")[kind]] = [make(random, depth - 1) for _ in range(random.randrange(1, 4))]
    elif kind == 3:
        schema["not"] = make(random, depth - 1)
    elif kind == 4:
        for name in ("if", "then", "else"):
            schema[name] = make(random, depth - 1)
    elif kind == 5:
        schema["$ref"] = "#/$defs/" + random.choice("xy")


def make(random, depth=3):
    """A schema; references are to "#/$defs/x" and "#/$defs/y", which `document` has."""
    if depth <= 0 or random.random() < 0.05:
        return random.choice([True, {"type": random.choice(TYPES)}, {"const": instance(random, 1)}, {"minLength": 2}])
    schema = {}
    if random.random() < 0.6:
        kinds = random.sample(TYPES, random.choice([1, 1, 1, 2]))
        schema["type"] = kinds[0] if len(kinds) == 1 else kinds
    if random.random() < 0.15:
        schema["enum"] = [instance(random, 1) for _ in range(random.randrange(1, 5))]
    _numbers(random, schema)
    _strings(random, schema)
    _arrays(random, schema, depth)
    _objects(random, schema, depth)
    if random.random() < 0.6:
        _combine(random, schema, depth)
    kept = [key for key in schema if random.random() < 0.5 or key == "type"]
    return {key: schema[key] for key in kept}


def document(random):
    definitions = {"x": make(random, 2), "y": {"type": "array", "items": {"$ref": "#/$defs/y"}}}
    return {"$defs": definitions, "allOf": [make(random)]}

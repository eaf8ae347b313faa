"""Prints the full name of every element of a schema, a line each.

Reads a FileDescriptorSet as JSON, as `buf build --output -#format=json` writes it. An
element is a message, a field, an enum, one of its values, a service or an RPC.
"""

import json
import sys

# What may stand in a descriptor, by the key that it stands under.
KINDS = ("messageType", "nestedType", "field", "enumType", "value", "service", "method")


def elements(name, descriptor):
    """The full names of all that stands in a descriptor."""
    for kind in KINDS:
        for inner in descriptor.get(kind, []):
            full = f"{name}.{inner['name']}"
            yield full
            yield from elements(full, inner)


for file in json.load(sys.stdin)["file"]:
    print(*elements(file["package"], file), sep="\n")

"""Prints the full name of every element of a schema, one on each line.

Reads a FileDescriptorSet as JSON, as `buf build --output -#format=json` writes it. An
element is a message, a field, an enum, one of its values, a service or an RPC.
"""

import json
import sys

# The keys of a descriptor under which it contains others.
KINDS = ("messageType", "nestedType", "field", "enumType", "value", "service", "method")


def elements(name, descriptor):
    """The full names of all elements in a descriptor."""
    for kind in KINDS:
        for inner in descriptor.get(kind, []):
            full = f"{name}.{inner['name']}"
            yield full
            yield from elements(full, inner)


for file in json.load(sys.stdin)["file"]:
    print(*elements(file["package"], file), sep="\n")

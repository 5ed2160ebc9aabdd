"""Prints a JSONL report without what differs from run to run: keys that end with `seconds`, and `command_line`."""

import json
import sys


def timeless(value):
    if isinstance(value, list):
        return [timeless(v) for v in value]
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not k.endswith("seconds") and k != "command_line"}
        return {k: timeless(v) for k, v in kept.items()}
    return value


for line in open(sys.argv[1]):
    print(json.dumps(timeless(json.loads(line))))

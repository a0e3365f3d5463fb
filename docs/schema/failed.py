#!/usr/bin/env python3
"""Names the cells that failed, of a run's record on standard input. Needs PyPI's jsonschema.

An example of a reader: it validates what it reads, and takes no skip and nothing unfinished for a pass.
"""

import json
import pathlib
import sys

import jsonschema

record = json.load(sys.stdin)
schema = json.loads((pathlib.Path(__file__).parent / "record-1.json").read_text())
# A record of another version fails here, too.
schema["properties"]["version"]["const"] = 1
jsonschema.validate(record, schema)

passed = 0
for cell, verdict in record["cells"]:
    name = f"{cell['suite']}/{cell['fixture']}/{cell['case']} on {cell['kernel']}"
    if verdict["verdict"] == "pass":
        passed += 1
    elif verdict["verdict"] == "fail":
        # Guests wrote parts of the reasons.
        print(f"{name}: {ascii(verdict['reasons'][0])}")
    else:
        print(f"{name}: {verdict['verdict']}, {ascii(verdict['reason'])}")
for cell in record.get("unfinished", []):
    print(f"{cell['suite']}/{cell['fixture']}/{cell['case']} on {cell['kernel']}: did not finish")
total = len(record["cells"]) + len(record.get("unfinished", []))
print(f"{passed} of {total} cells passed under {record['accel']}")

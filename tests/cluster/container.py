"""Prints the command of the container of a Kubernetes job as a line for a shell.

Arguments: the job's file; what stands in place of its `--require cuda`; what stands in place of its directory /data."""

import shlex
import sys

import yaml

job, lanes, data = sys.argv[1:]
spec = yaml.safe_load(open(job))["spec"]
# The pods that are tried have these indices.
assert (spec["completionMode"], spec["completions"]) == ("Indexed", 8), spec
[container] = spec["template"]["spec"]["containers"]
[script] = container["args"]
assert script.count("--require cuda") == 1, script
script = script.replace("--require cuda", lanes).replace("/data/", f"{data}/")
print(shlex.join([*container["command"], script]))

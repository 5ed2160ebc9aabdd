#!/usr/bin/env python3
"""Runs every command that the figures about a GPU come from, and keeps what they say.

    cargo build --release
    python3 docs/measurements/measure.py

writes docs/measurements/DATE-DEVICE.json and .md: devices, demo, a large synthetic tensor, the published tensor
where it is at hand, bench and selftest, each with its command and exit code. Python's own library is all it needs.
Every lane of --lanes is required: a machine without one gets no figures. The files are written only when every
command has passed.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LARGE = "12288x4096"


def weights(path: pathlib.Path, rows: int, cols: int) -> None:
    """A BF16 weight of random values of both signs between 2^-7 and 2^-5, as a safetensors file."""
    size = 2 * rows * cols
    header = {"model.layers.0.mlp.gate_proj.weight": {
        "dtype": "BF16", "shape": [rows, cols], "data_offsets": [0, size]}}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for _ in range(rows):
            bits = int.from_bytes(os.urandom(2 * cols), "little")
            keep = int.from_bytes(b"\xff\x80" * cols, "little")
            exponent = int.from_bytes(b"\x00\x3c" * cols, "little")
            file.write((bits & keep | exponent).to_bytes(2 * cols, "little"))


def call(*words: str) -> str:
    """Runs a command that must succeed; what it printed."""
    print(*words, flush=True)
    out = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if out.returncode != 0:
        sys.exit(f"error: it ended with {out.returncode}\n{out.stdout}")
    return out.stdout


def both(*words: str) -> dict:
    """What a command says as JSON and as Markdown."""
    return {"command": " ".join(words),
            "json": json.loads(call(*words, "--format", "json")),
            "markdown": call(*words, "--format", "markdown")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tq4", default=str(ROOT / "target/release/tq4"), help="the program")
    parser.add_argument("--lanes", default="cuda,wgpu", help="lanes that must run")
    parser.add_argument("--allow-software", action="store_true", help="take software adapters for them")
    parser.add_argument("--shape", default=LARGE, help="of the synthetic tensor")
    parser.add_argument("--time-limit", default="10", help="seconds of rounds a shape")
    parser.add_argument("--seed-case", default=str(ROOT.parent / "shared/seed-case"), help="the published tensor")
    parser.add_argument("--out", default=str(HERE), help="folder for the two files")
    args = parser.parse_args()
    rows, cols = (int(n) for n in args.shape.split("x"))
    common = ["--lanes", args.lanes] + ["--allow-software"] * args.allow_software
    tq4, seed, runs = args.tq4, pathlib.Path(args.seed_case), {}
    with tempfile.TemporaryDirectory() as folder:
        at = pathlib.Path(folder)
        source, model, bench = (str(at / name) for name in ("source", "tq4", "bench"))
        os.mkdir(source)
        weights(at / "source/model.safetensors", rows, cols)
        call(tq4, "quantize", "--source-model", source, "--output", model)
        runs["devices"] = both(tq4, "devices")
        runs["demo"] = both(tq4, "demo", "--dir", str(at / "demo"), *common)
        runs["a large tensor in one launch"] = both(
            tq4, "validate", "--tq-model", model, "--source-model", source, "--all", "--strip", "whole", *common)
        if (seed / "tq-model").is_dir():
            runs["the published tensor"] = both(tq4, "validate", "--tq-model", str(seed / "tq-model"), "--all", *common)
        # Timed once: both files are of one run.
        timed = [tq4, "bench", "--time-limit", args.time_limit, *common]
        timed += ["--shape", args.shape] if args.shape != LARGE else []
        call(*timed, "--json", bench + ".json", "--markdown", bench + ".md")
        runs["bench"] = {"command": " ".join(timed), "json": json.loads(pathlib.Path(bench + ".json").read_text()),
                         "markdown": pathlib.Path(bench + ".md").read_text()}
        said = call(tq4, "selftest").rstrip()
        runs["selftest"] = {"command": f"{tq4} selftest", "markdown": f"```text\n{said}\n```\n"}

    date = datetime.date.today().isoformat()
    device = next(lane for lane in runs["bench"]["json"]["lanes"] if lane["name"] == args.lanes.split(",")[0])
    name = re.sub(r"[^a-z0-9]+", "-", device["device"].lower()).strip("-")
    host = platform.platform()
    record = {"date": date, "host": host, "device": device["device"], "driver": device["driver"], "runs": runs}
    text = f"# {device['device']}, {date}\n\nDriver: {device['driver']}. Host: {host}.\n"
    for title, run in runs.items():
        body = re.sub(r"^#", "##", run["markdown"].rstrip(), flags=re.M)
        text += f"\n## {title}\n\n```sh\n{run['command']}\n```\n\n{body}\n"
    # Where the files lay on that machine is nobody's business.
    hide = {folder: "FOLDER", str(seed): "SEED-CASE", args.tq4: "tq4", str(ROOT): "."}
    for suffix, body in (("json", json.dumps(record) + "\n"), ("md", text)):
        for path, shown in hide.items():
            body = body.replace(path, shown)
        path = pathlib.Path(args.out) / f"{date}-{name}.{suffix}"
        part = path.with_suffix(f".{suffix}.part")
        part.write_text(body)
        part.replace(path)
        print("wrote", path)


if __name__ == "__main__":
    main()

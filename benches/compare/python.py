#!/usr/bin/env python3
"""How long does Python take to load a model's arrays from a file, up to the first number?

Times pickle.load, joblib.load and safetensors on numpy arrays of the same total size, each sample in a fresh process,
and prints medians; with --json one JSON object as the last line. The imports are not in the times. Methods whose
modules are not installed are named as skipped.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

# What each method needs beside Python itself.
MODULES = {
    "pickle": ["numpy"],
    "joblib": ["numpy", "joblib"],
    "joblib_mmap": ["numpy", "joblib"],
    "safetensors": ["numpy", "safetensors"],
}
EXPLAINED = {
    "pickle": "pickle.load, protocol 5",
    "joblib": "joblib.load",
    "joblib_mmap": "joblib.load, mmap_mode='r'",
    "safetensors": "safetensors.numpy.load_file",
}


def arrays(megabytes):
    """Half weights, a quarter prices, a quarter nodes, as in the Rust measurements."""
    import numpy

    random = numpy.random.default_rng(1)
    total = megabytes << 20
    nodes = numpy.frombuffer(random.bytes(total // 4 // 20 * 20), dtype=numpy.uint8).reshape(-1, 20).copy()
    prices = 100.0 + numpy.cumsum(random.integers(-5, 6, total // 32)) / 100.0
    return {"weights": random.random(total // 16) - 0.5, "prices": prices, "nodes": nodes}


def write(path, method, megabytes):
    model = arrays(megabytes)
    if method == "pickle":
        import pickle

        with open(path, "wb") as file:
            pickle.dump(model, file, protocol=5)
    elif method.startswith("joblib"):
        import joblib

        joblib.dump(model, path)
    else:
        from safetensors.numpy import save_file

        save_file(model, path)


def load_and_time(path, method):
    """Runs in a process of its own: seconds to the first number, and until every byte was read."""
    import numpy  # noqa: F401  (its import is not what is measured)

    if method == "pickle":
        import pickle

        def load():
            with open(path, "rb") as file:
                return pickle.load(file)
    elif method.startswith("joblib"):
        import joblib

        mode = "r" if method == "joblib_mmap" else None

        def load():
            return joblib.load(path, mmap_mode=mode)
    else:
        from safetensors.numpy import load_file

        def load():
            return load_file(path)

    started = time.perf_counter()
    model = load()
    prediction = float(model["weights"][:64].sum()) + float(model["prices"][-1]) + float(model["nodes"][0, 0])
    first = time.perf_counter() - started
    for array in model.values():
        array.sum()
    everything = time.perf_counter() - started
    print(first, everything, prediction)


def measure(methods, megabytes, samples, folder):
    paths = {}
    for method in methods:
        paths[method] = os.path.join(folder, method)
        write(paths[method], method, megabytes)
    os.sync()
    times = {method: [] for method in methods}
    # The first round only warms the OS cache; methods take turns.
    for turn in range(samples + 1):
        for method in methods:
            child = [sys.executable, os.path.abspath(__file__), "--child", method, paths[method]]
            first, everything, _ = subprocess.run(child, check=True, capture_output=True, text=True).stdout.split()
            if turn > 0:
                times[method].append((float(first), float(everything)))
    return times


def versions(modules):
    import importlib.metadata

    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in modules}}


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=positive, default=50, help="megabytes of all arrays together (default: 50)")
    parser.add_argument("--samples", type=positive, default=11, help="fresh processes per method (default: 11)")
    parser.add_argument("--dir", help="where the files are to be (default: the system's temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        method, path = arguments.child
        return load_and_time(path, method)
    if arguments.dir and not os.path.isdir(arguments.dir):
        parser.error(f"{arguments.dir} is not a folder")

    missing = {m: [n for n in needs if importlib.util.find_spec(n) is None] for m, needs in MODULES.items()}
    methods = [method for method, absent in missing.items() if not absent]
    skipped = {method: absent for method, absent in missing.items() if absent}
    with tempfile.TemporaryDirectory(prefix="compare-", dir=arguments.dir) as folder:
        times = measure(methods, arguments.mb, arguments.samples, folder)

    result = {"command": "python", "mb": arguments.mb, "samples": arguments.samples, "skipped": skipped}
    print(f"{arguments.mb} MB of numpy arrays, medians of {arguments.samples} fresh processes")
    print(f"{'':<30}{'first number':>14}{'all bytes read':>16}")
    for method, samples in times.items():
        first = statistics.median(sample[0] for sample in samples) * 1e6
        everything = statistics.median(sample[1] for sample in samples) * 1e6
        result[f"{method}_us"], result[f"all_{method}_us"] = round(first, 1), round(everything, 1)
        print(f"{EXPLAINED[method]:<30}{first / 1e3:>11.2f} ms{everything / 1e3:>13.2f} ms")
    for method, absent in skipped.items():
        print(f"{EXPLAINED[method]:<30}skipped: {', '.join(absent)} not installed")
    used = sorted({name for method in methods for name in MODULES[method]})
    result["machine"] = {"kernel": platform.release(), "cores": os.cpu_count(), "versions": versions(used)}
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()

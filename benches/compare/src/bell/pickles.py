"""Writes and loads a folder of pickles, one for each model, as `compare bell` tells it to.

The arrays have the proportions of the Rust models: half weights, a quarter prices, a quarter nodes. Imports are not in
the time, and neither is making the list of names.
"""

import json
import os
import pickle
import platform
import sys
import time

import numpy


def arrays(size, seed):
    random = numpy.random.default_rng(seed)
    nodes = numpy.frombuffer(random.bytes(size // 80 * 20), dtype=numpy.uint8).reshape(-1, 20).copy()
    prices = 100.0 + numpy.cumsum(random.integers(-5, 6, size // 32)) / 100.0
    return {"weights": random.random(size // 16) - 0.5, "prices": prices, "nodes": nodes}


def names(folder, count):
    return [os.path.join(folder, f"{index}.pickle") for index in range(count)]


def write(folder, count, size):
    for seed, name in enumerate(names(folder, count)):
        with open(name, "wb") as file:
            pickle.dump(arrays(size, seed), file, protocol=5)


def load(folder, count):
    wanted = names(folder, count)
    models = {}
    started = time.perf_counter()
    for name in wanted:
        with open(name, "rb") as file:
            models[name] = pickle.load(file)
    taken = time.perf_counter() - started
    sums = [float(model["weights"][:64].sum()) + float(model["prices"][-1]) for model in models.values()]
    print(taken, sum(1 for number in sums if number == number))


command, arguments = sys.argv[1], sys.argv[2:]
if command == "versions":
    print(json.dumps({"python": platform.python_version(), "numpy": numpy.__version__}))
elif command == "write":
    write(arguments[0], int(arguments[1]), int(arguments[2]))
else:
    load(arguments[0], int(arguments[1]))

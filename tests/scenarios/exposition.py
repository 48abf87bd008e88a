"""A small checker of Prometheus's text format: what a scraper relies on."""

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)(?: \d+)?$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def problems(text):
    """What is wrong with a page, as a list of texts; and its series as {(name, labels): value}."""
    wrong, series, helps, types, current = [], {}, {}, {}, None
    if not text.endswith("\n"):
        wrong.append("no newline at the end")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, words = line[7:].partition(" ")
            if name in helps:
                wrong.append(f"{name}: HELP twice")
            helps[name] = words
            if len(words) < 8:
                wrong.append(f"{name}: HELP says nothing")
        elif line.startswith("# TYPE "):
            name, _, kind = line[7:].partition(" ")
            if name in types:
                wrong.append(f"{name}: TYPE twice")
            types[name] = kind
            current = name
        elif line.startswith("#") or not line:
            continue
        else:
            match = SAMPLE.match(line)
            if match is None:
                wrong.append(f"not a sample: {line}")
                continue
            name, labels, value = match.groups()
            family = re.sub(r"_(bucket|sum|count)$", "", name) if types.get(current) == "histogram" else name
            if family != current:
                wrong.append(f"{name}: outside of its family")
            pairs = tuple(sorted(LABEL.findall(labels or "")))
            if labels and LABEL.sub("", labels):
                wrong.append(f"{name}: labels {labels}")
            if (name, pairs) in series:
                wrong.append(f"{name}{pairs}: twice")
            try:
                series[name, pairs] = float(value)
            except ValueError:
                wrong.append(f"{name}: value {value}")
            if types.get(family) == "counter" and not name.endswith("_total"):
                wrong.append(f"{name}: a counter without _total")
            if types.get(family) in ("counter", "histogram") and not series.get((name, pairs), 0) >= 0:
                wrong.append(f"{name}: {value}")
    for name in set(helps) ^ set(types):
        wrong.append(f"{name}: HELP and TYPE do not go together")
    for name, kind in types.items():
        if kind == "histogram":
            wrong += histogram(name, series)
    return wrong, series


def histogram(name, series):
    wrong, groups = [], {}
    for (sample, labels), value in series.items():
        if sample == name + "_bucket":
            bound = dict(labels)["le"]
            rest = tuple(pair for pair in labels if pair[0] != "le")
            groups.setdefault(rest, []).append((math.inf if bound == "+Inf" else float(bound), value))
    for labels, buckets in groups.items():
        buckets.sort()
        counts = [count for _, count in buckets]
        if buckets[-1][0] != math.inf:
            wrong.append(f"{name}{labels}: no +Inf")
        if counts != sorted(counts):
            wrong.append(f"{name}{labels}: buckets fall")
        if series.get((name + "_count", labels)) != counts[-1]:
            wrong.append(f"{name}{labels}: count")
        if (name + "_sum", labels) not in series:
            wrong.append(f"{name}{labels}: no sum")
    return wrong

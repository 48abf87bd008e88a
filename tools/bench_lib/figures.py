"""Statistics of the benchmarks: small, pure, tested in tests/bench."""

import math
import statistics


def median(values):
    return statistics.median(values) if values else math.nan


def mean(values):
    return statistics.fmean(values) if values else math.nan


def spread(values):
    """(median, least, greatest)."""
    return (median(values), min(values), max(values)) if values else (math.nan,) * 3


def pair_ratios(ours, theirs):
    """Round by round, because neighbours in time share what the machine did meanwhile."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds beside {len(theirs)}")
    return [mine / other for mine, other in zip(ours, theirs) if other > 0]


def merge_buckets(histograms):
    """[[upper_ms, count], …] of several histograms as one, in order."""
    merged = {}
    for buckets in histograms:
        for upper, count in buckets:
            merged[upper] = merged.get(upper, 0) + count
    return sorted(merged.items())


def bucket_quantile(buckets, share):
    """The upper edge (ms) of the bucket that holds the wanted rank; 0 where there is nothing."""
    wanted = share * sum(count for _, count in buckets)
    seen = 0
    for upper, count in buckets:
        seen += count
        if count and seen >= wanted:
            return float(upper)
    return 0.0

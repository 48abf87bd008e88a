"""Statistics of the benchmarks: small, pure, tested in tests/bench."""

import math
import random
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


def quantile(values, share):
    """The least value that at least this share of all do not exceed."""
    if not values:
        return math.nan
    rank = max(math.ceil(share * len(values) - 1e-9), 1)
    return sorted(values)[rank - 1]


def differences(ours, theirs, share, group):
    """The quantile of ours less that of theirs, for each `group` neighbouring rounds taken together. Rounds are
    lists of samples; what is left over at the end joins the last group."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds beside {len(theirs)}")
    starts = list(range(0, len(ours) - group + 1, group)) or [0]
    ends = [*starts[1:], len(ours)]

    def of(rounds, begin, end):
        return quantile([value for one in rounds[begin:end] for value in one], share)

    return [of(ours, begin, end) - of(theirs, begin, end) for begin, end in zip(starts, ends)]


def mean_interval(values, share=0.95, draws=10000, seed=1):
    """(mean, lower end, upper end): bootstrap, by percentiles of the means of samples drawn with replacement."""
    if len(values) < 2:
        return mean(values), -math.inf, math.inf
    chance = random.Random(seed)
    means = sorted(sum(chance.choices(values, k=len(values))) / len(values) for _ in range(draws))
    cut = (1 - share) / 2
    return mean(values), means[math.floor(cut * draws)], means[math.ceil((1 - cut) * draws) - 1]

#!/usr/bin/env python3
"""The benchmarks' statistics, on figures that can be checked by hand."""

import math
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.dont_write_bytecode = True
from bench_lib import figures  # noqa: E402


class Figures(unittest.TestCase):
    def test_spread(self):
        self.assertEqual(figures.spread([3.0, 1.0, 2.0]), (2.0, 1.0, 3.0))
        self.assertTrue(all(math.isnan(value) for value in figures.spread([])))

    def test_pairs_stay_pairs(self):
        # The machine became twice as slow after the first round: the ratio does not see it.
        self.assertEqual(figures.pair_ratios([9.0, 18.0], [10.0, 20.0]), [0.9, 0.9])
        with self.assertRaises(ValueError):
            figures.pair_ratios([1.0], [1.0, 2.0])

    def test_merged_buckets(self):
        merged = figures.merge_buckets([[[1, 5], [3, 1]], [[2, 2], [3, 4]], []])
        self.assertEqual(merged, [(1, 5), (2, 2), (3, 5)])

    def test_bucket_quantile(self):
        buckets = [(1, 50), (2, 45), (10, 4), (100, 1)]
        self.assertEqual(figures.bucket_quantile(buckets, 0.50), 1)
        self.assertEqual(figures.bucket_quantile(buckets, 0.51), 2)
        self.assertEqual(figures.bucket_quantile(buckets, 0.95), 2)
        self.assertEqual(figures.bucket_quantile(buckets, 0.99), 10)
        self.assertEqual(figures.bucket_quantile(buckets, 1.0), 100)
        self.assertEqual(figures.bucket_quantile([], 0.99), 0)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""The benchmarks' statistics, on figures that can be checked by hand."""

import math
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
sys.dont_write_bytecode = True
from bench_lib import figures, loops, proxies, size  # noqa: E402


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

    def test_quantile_is_a_sample(self):
        values = list(range(100, 0, -1))
        self.assertEqual(figures.quantile(values, 0.50), 50)
        self.assertEqual(figures.quantile(values, 0.99), 99)
        self.assertEqual(figures.quantile([7.0], 0.01), 7.0)
        self.assertTrue(math.isnan(figures.quantile([], 0.5)))

    def test_differences_pair_what_was_measured_together(self):
        # The second half of the run is a hundred slower for both; each pair differs by one all the same.
        ours = [[2, 3, 4], [2, 3, 4], [102, 103, 104], [102, 103, 104], [102, 103, 104]]
        theirs = [[1, 2, 3], [1, 2, 3], [101, 102, 103], [101, 102, 103], [101, 102, 103]]
        self.assertEqual(figures.differences(ours, theirs, 0.5, 1), [1] * 5)
        self.assertEqual(figures.differences(ours, theirs, 0.99, 2), [1, 1])  # the fifth round joins the second pair
        with self.assertRaises(ValueError):
            figures.differences(ours, theirs[1:], 0.5, 1)

    def test_interval(self):
        middle, low, high = figures.mean_interval([1.0, 2.0, 3.0, 4.0, 5.0] * 20)
        self.assertEqual(middle, 3.0)
        # The standard error of the mean is .142, so the interval is about 3 ± .28.
        self.assertAlmostEqual(low, 3 - 0.28, delta=0.06)
        self.assertAlmostEqual(high, 3 + 0.28, delta=0.06)
        self.assertEqual(figures.mean_interval([2.0, 2.0]), (2.0, 2.0, 2.0))
        self.assertEqual(figures.mean_interval([2.0])[1:], (-math.inf, math.inf))  # one pair says nothing


class Locks(unittest.TestCase):
    def test_only_waits_count_each_on_its_thread(self):
        lines = """
  11  10.000100: syscalls:sys_enter_futex: uaddr: 0x7f, op: 0x80, val: 0x02, utime: 0x0
  12  10.000200: syscalls:sys_enter_futex: uaddr: 0x7f, op: 0x81, val: 0x01, utime: 0x0
  12  10.000210: syscalls:sys_exit_futex: 0x1
  11  10.000600: syscalls:sys_exit_futex: 0x0
  11  10.001000: syscalls:sys_exit_futex: 0x0
  12  10.002000: syscalls:sys_enter_futex: uaddr: 0x7f, op: 0x189, val: 0x01, utime: 0x0
  12  10.002500: syscalls:sys_exit_futex: 0x0
"""
        count, waited = loops.sum_waits(lines)
        self.assertEqual(count, 2)
        self.assertAlmostEqual(waited, 0.001)
        self.assertEqual(loops.sum_waits(""), (0, 0.0))


class Size(unittest.TestCase):
    def test_what_is_the_systems(self):
        for name in ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1"):
            self.assertTrue(size.SYSTEM.match(name), name)
        for name in ("libcrypto.so.3", "libcap.so.2", "libprometheus-cpp-core.so.1.0", "libmimalloc.so.2"):
            self.assertFalse(size.SYSTEM.match(name), name)


class Configurations(unittest.TestCase):
    def test_nginx_takes_what_a_bench_adds_in_place_of_its_connection_field(self):
        class Folder:
            folder = "/tmp"

        for rest, wanted in (("", 'Connection ""'), ("      proxy_set_header Connection upgrade;\n", "upgrade")):
            nginx = proxies.Nginx(Folder(), "nginx", rest=rest)
            nginx.port = 1
            text = nginx.configuration(["127.0.0.1:2"])
            self.assertEqual(text.count("proxy_set_header Connection"), 1)
            self.assertIn(wanted, text)


if __name__ == "__main__":
    unittest.main()

// Summing what the loops count. See loop_metrics.h.
#include "perigee/telemetry/loop_metrics.h"

namespace perigee::telemetry {

static_assert(static_cast<std::size_t>(Count::streams_stopped) + 1 == kCountCount);
static_assert(static_cast<std::size_t>(Latency::duration) + 1 == kLatencyCount);
static_assert(static_cast<std::size_t>(Reason::internal_error) + 1 == kReasonCount);
static_assert(static_cast<std::size_t>(StreamVerdict::unterminated) + 1 == kVerdictCount);

void MetricTotals::add(const LoopMetrics& loop) {
  for (std::size_t i = 0; i < cells_.size(); ++i)
    cells_[i] += loop.cells_[i].value();
}

void RecentLatencies::tick(const std::vector<const LoopMetrics*>& loops, TimePoint now) {
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    // Most of the forty rows never see a sample: look at the few classic buckets before the 1536 fine ones.
    bool any = rows_[r] != nullptr;
    const std::size_t classic = detail::kLatenciesAt + r * detail::kLatencyCells;
    for (std::size_t l = 0; !any && l < loops.size(); ++l) {
      for (std::size_t b = 0; b < kLatencyBuckets; ++b)
        any = any || loops[l]->cells_[classic + b].value() > 0;
    }
    if (!any) continue;
    if (!rows_[r]) rows_[r] = std::make_unique<Row>(now);
    Row& row = *rows_[r];
    for (std::size_t bucket = 0; bucket < kQuantileBuckets; ++bucket) {
      std::uint32_t recorded = 0;
      for (const LoopMetrics* loop : loops)
        recorded += loop->fine_[r][bucket].value();
      const std::uint32_t fresh = recorded - row.seen[bucket];
      if (fresh == 0) continue;
      row.seen[bucket] = recorded;
      row.recent.add(bucket, fresh, now);
    }
  }
}

std::optional<double> RecentLatencies::quantile(Latency l, RequestClass c, double q, TimePoint now) const {
  const std::unique_ptr<Row>& row = rows_[detail::latency_row(l, c)];
  return row ? row->recent.quantile(q, now) : std::nullopt;
}

}  // namespace perigee::telemetry

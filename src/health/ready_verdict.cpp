// Judging the answer to a probe. See ready_verdict.h.
#include "perigee/health/ready_verdict.h"

#include <nlohmann/json.hpp>

namespace perigee::health {
namespace {

struct OrbitBody {
  bool is = false;
  bool ready = false;
  std::optional<double> ratio;
};

OrbitBody look_at(int status, std::string_view body) {
  OrbitBody seen;
  if (body.size() > kReadyBodyMax) return seen;
  const auto json = nlohmann::json::parse(body.begin(), body.end(), nullptr, false);
  if (!json.is_object()) return seen;
  const auto ready = json.find("ready");
  if (ready == json.end() || !ready->is_boolean()) return seen;
  seen.ready = ready->get<bool>();
  const auto ratio = json.find("healthy_ratio");
  if (ratio != json.end() && ratio->is_number()) seen.ratio = ratio->get<double>();
  // What ORBIT says before its adapters are loaded: {"ready":false,"reason":"…"}. Were it taken for a stranger,
  // its kind would be wrong until the next reload.
  const bool starting = status == 503 && !seen.ready && json.contains("reason");
  seen.is = seen.ratio.has_value() || starting;
  return seen;
}

}  // namespace

ReadyVerdict judge_ready(WorkerKind known, int status, std::string_view body) {
  using balancing::ProbeResult;
  if (known == WorkerKind::http) return {ProbeResult::ok, WorkerKind::http, std::nullopt};
  const OrbitBody orbit = look_at(status, body);
  if (known == WorkerKind::unknown && !orbit.is) return {ProbeResult::ok, WorkerKind::http, std::nullopt};
  const bool good = status == 200 && orbit.is && orbit.ready;
  return {good ? ProbeResult::ok : ProbeResult::not_ready, WorkerKind::orbit, orbit.ratio};
}

}  // namespace perigee::health

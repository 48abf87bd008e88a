// The product's closed sets of words: classes of work, priorities, replay rules.
//
// They stand here because configuration, admission, telemetry and the proxy all speak them. Their text
// forms are what the operator reads and writes: configuration keys, metric labels, log fields.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace perigee {

// Kind of work a request asks for. `other` is everything ORBIT serves that has no class of its own,
// and all of the traffic in front of workers that are not ORBIT.
enum class RequestClass : std::uint8_t { chat, embeddings, search, files, admin, health, mcp, a2a, voice, other };
inline constexpr std::size_t kClassCount = 10;
inline constexpr std::array<std::string_view, kClassCount> kClassNames = {
    "chat", "embeddings", "search", "files", "admin", "health", "mcp", "a2a", "voice", "other"};

// Who goes first. Lower value = more important.
enum class Priority : std::uint8_t { critical, high, normal, low };
inline constexpr std::size_t kPriorityCount = 4;
inline constexpr std::array<std::string_view, kPriorityCount> kPriorityNames = {"critical", "high", "normal", "low"};

// When a request may be sent to a worker again after an attempt failed.
enum class Replay : std::uint8_t {
  never,       // not even when nothing was sent
  unsent,      // only if no byte of it reached a worker
  no_head,     // until the head of the answer came
  idempotent,  // until the first byte went to the client
};
inline constexpr std::array<std::string_view, 4> kReplayNames = {"never", "unsent", "no_head", "idempotent"};

// What a worker is: found by its first probe or written. Decides the defaults of the design's table.
enum class WorkerKind : std::uint8_t { unknown, orbit, http };
inline constexpr std::array<std::string_view, 3> kWorkerKindNames = {"unknown", "orbit", "http"};

constexpr std::string_view to_string(RequestClass c) { return kClassNames[static_cast<std::size_t>(c)]; }
constexpr std::string_view to_string(Priority p) { return kPriorityNames[static_cast<std::size_t>(p)]; }
constexpr std::string_view to_string(Replay r) { return kReplayNames[static_cast<std::size_t>(r)]; }
constexpr std::string_view to_string(WorkerKind k) { return kWorkerKindNames[static_cast<std::size_t>(k)]; }

namespace detail {
template <typename Enum, std::size_t N>
constexpr std::optional<Enum> from_name(const std::array<std::string_view, N>& names, std::string_view text) {
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == text) return static_cast<Enum>(i);
  }
  return std::nullopt;
}
}  // namespace detail

constexpr std::optional<RequestClass> class_from(std::string_view t) {
  return detail::from_name<RequestClass>(kClassNames, t);
}
constexpr std::optional<Priority> priority_from(std::string_view t) {
  return detail::from_name<Priority>(kPriorityNames, t);
}
constexpr std::optional<Replay> replay_from(std::string_view t) { return detail::from_name<Replay>(kReplayNames, t); }
constexpr std::optional<WorkerKind> worker_kind_from(std::string_view t) {
  return detail::from_name<WorkerKind>(kWorkerKindNames, t);
}

}  // namespace perigee

// One line of the access log, from record to JSON: plain copying into a buffer, nothing that allocates,
// throws or asks for a locale. See access_log.h.
#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <span>

#include "escape.h"
#include "perigee/telemetry/access_log.h"

namespace perigee::telemetry {
namespace {

constexpr std::size_t kMethodMax = 32;
constexpr std::size_t kClientMax = 46;     // an IPv6 address at its longest
constexpr std::size_t kFixedParts = 1024;  // keys, numbers and the names of closed sets: about 700
static_assert(kEscapeGrowth * (kLoggedPathMax + 2 * kLoggedIdMax + kLoggedNameMax + kMethodMax + kClientMax) +
                  kFixedParts <=
              kLineMax);

constexpr auto kPairs = [] {
  std::array<char, 200> pairs{};
  for (unsigned i = 0; i < 100; ++i) {
    pairs[2 * i] = static_cast<char>('0' + i / 10);
    pairs[2 * i + 1] = static_cast<char>('0' + i % 10);
  }
  return pairs;
}();

constexpr auto kPowersOfTen = [] {
  std::array<std::uint64_t, 20> powers{};
  for (std::uint64_t power = 1; std::uint64_t& p : powers) {
    p = power;
    power *= 10;
  }
  return powers;
}();

// n > 0
constexpr std::size_t decimal_digits(std::uint64_t n) {
  const auto about = static_cast<std::size_t>(std::bit_width(n)) * 1233 >> 12;  // 1233 / 4096 = log10(2)
  return about + (about < kPowersOfTen.size() && n >= kPowersOfTen[about] ? 1 : 0);
}

// A pen that writes forward; the room was checked once, above.
struct Pen {
  char* at;

  template <std::size_t N>
  void literal(const char (&text)[N]) {
    std::memcpy(at, text, N - 1);
    at += N - 1;
  }
  void name(std::string_view text) {  // of a closed set of ours: nothing to escape
    std::memcpy(at, text.data(), text.size());
    at += text.size();
  }
  void text(std::string_view from_outside, std::size_t max) {
    at = escape_json(cut_text(from_outside, max), at);
  }
  void number(std::uint64_t n) {
    if (n < 10) {
      *at++ = static_cast<char>('0' + n);
      return;
    }
    const std::size_t length = decimal_digits(n);
    char* to = at + length;
    at = to;
    for (; n >= 100; n /= 100)
      std::memcpy(to -= 2, &kPairs[2 * (n % 100)], 2);
    if (n >= 10)
      std::memcpy(to - 2, &kPairs[2 * n], 2);
    else
      to[-1] = static_cast<char>('0' + n);
  }
  void hex(std::span<const std::uint8_t> bytes) {
    for (const std::uint8_t byte : bytes) {
      *at++ = "0123456789abcdef"[byte >> 4U];
      *at++ = "0123456789abcdef"[byte & 15U];
    }
  }
  void two_digits(unsigned n) {
    std::memcpy(at, &kPairs[2 * n], 2);
    at += 2;
  }
  void three_digits(unsigned n) {
    *at++ = static_cast<char>('0' + n / 100);
    two_digits(n % 100);
  }
  template <std::size_t N>
  void stage(const char (&key)[N], Duration took) {
    if (took.count() < 0) return;
    literal(key);
    const auto us = static_cast<std::uint64_t>(took.count()) / 1000;
    number(us / 1000);
    literal(".");
    three_digits(static_cast<unsigned>(us % 1000));
  }
};

std::string_view without_query(std::string_view path) {
  for (const char end : {'?', '#'}) {
    const void* found = path.empty() ? nullptr : std::memchr(path.data(), end, path.size());
    if (found != nullptr)
      path = path.substr(0, static_cast<std::size_t>(static_cast<const char*>(found) - path.data()));
  }
  return path;
}

void write_second(std::int64_t second, char* out) {
  const std::chrono::sys_seconds at{std::chrono::seconds(second)};
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(at - day);
  Pen pen{out};
  const auto year = static_cast<unsigned>(static_cast<int>(date.year()));
  pen.two_digits(year / 100);
  pen.two_digits(year % 100);
  pen.literal("-");
  pen.two_digits(static_cast<unsigned>(date.month()));
  pen.literal("-");
  pen.two_digits(static_cast<unsigned>(date.day()));
  pen.literal("T");
  pen.two_digits(static_cast<unsigned>(time.hours().count()));
  pen.literal(":");
  pen.two_digits(static_cast<unsigned>(time.minutes().count()));
  pen.literal(":");
  pen.two_digits(static_cast<unsigned>(time.seconds().count()));
  pen.literal(".");
}

}  // namespace

std::size_t AccessLineFormatter::format(const AccessRecord& r, char* out) {
  // Years of four digits only; a clock that is off by millennia is shown as its bound.
  const std::int64_t wall_ms = std::clamp<std::int64_t>(r.wall_ms, 0, 253'402'300'799'999);
  const std::int64_t second = wall_ms / 1000;
  if (second != second_) {
    write_second(second, second_text_);
    second_ = second;
  }
  Pen pen{out};
  pen.literal("{\"time\":\"");
  pen.name({second_text_, sizeof second_text_});
  pen.three_digits(static_cast<unsigned>(wall_ms % 1000));
  pen.literal("Z\",\"id\":\"");
  pen.text(r.request_id, kLoggedIdMax);
  if (!r.worker_request_id.empty()) {
    pen.literal("\",\"worker_id\":\"");
    pen.text(r.worker_request_id, kLoggedIdMax);
  }
  if (r.trace_id != nullptr && *r.trace_id != std::array<std::uint8_t, 16>{}) {
    pen.literal("\",\"trace_id\":\"");
    pen.hex(*r.trace_id);
  }
  if (!r.client.empty()) {
    pen.literal("\",\"client\":\"");
    pen.text(r.client, kClientMax);
  }
  pen.literal("\",\"method\":\"");
  pen.text(r.method, kMethodMax);
  pen.literal("\",\"path\":\"");
  const std::string_view path = without_query(r.path);
  pen.text(path, kLoggedPathMax);
  if (path.size() > kLoggedPathMax)
    pen.literal("\",\"path_cut\":true,\"class\":\"");
  else
    pen.literal("\",\"class\":\"");
  pen.name(to_string(r.request_class));
  pen.literal("\",\"priority\":\"");
  pen.name(to_string(r.priority));
  if (!r.backend.empty()) {
    pen.literal("\",\"backend\":\"");
    pen.text(r.backend, kLoggedNameMax);
  }
  pen.literal("\",\"reason\":\"");
  pen.name(to_string(r.reason));
  pen.literal("\",\"attempts\":");
  pen.number(r.attempts);
  pen.literal(",\"status\":");
  pen.number(static_cast<std::uint64_t>(std::max(r.status, 0)));
  pen.literal(",\"bytes_in\":");
  pen.number(r.bytes_in);
  pen.literal(",\"bytes_out\":");
  pen.number(r.bytes_out);
  pen.stage(",\"read_ms\":", r.read);
  pen.stage(",\"queue_ms\":", r.queue);
  pen.stage(",\"connect_ms\":", r.connect);
  pen.stage(",\"head_ms\":", r.head);
  pen.stage(",\"first_event_ms\":", r.first_event);
  pen.stage(",\"total_ms\":", r.total);
  if (r.stream != StreamVerdict::none) {
    pen.literal(",\"stream\":\"");
    pen.name(to_string(r.stream));
    pen.literal("\"");
  }
  if (r.client_gone) pen.literal(",\"client_gone\":true");
  if (r.detached) pen.literal(",\"detached\":true");
  pen.literal("}\n");
  return static_cast<std::size_t>(pen.at - out);
}

AccessLogBuffer::AccessLogBuffer(BlockSink& sink, std::size_t block, Duration patience)
    : sink_(sink), block_(block), patience_(patience), bytes_(std::make_unique<char[]>(block + kLineMax)) {}

AccessLogBuffer::~AccessLogBuffer() {
  flush();
}

void AccessLogBuffer::append(const AccessRecord& record, TimePoint now) {
  if (used_ == 0) oldest_ = now;
  used_ += formatter_.format(record, bytes_.get() + used_);
  ++lines_;
  if (used_ >= block_) flush();
}

void AccessLogBuffer::flush_if_due(TimePoint now) {
  if (used_ > 0 && now - oldest_ >= patience_) flush();
}

void AccessLogBuffer::flush() {
  if (used_ == 0) return;
  sink_.write_block({bytes_.get(), used_}, lines_);
  used_ = 0;
  lines_ = 0;
}

}  // namespace perigee::telemetry

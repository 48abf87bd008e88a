// The field table of each section. One function a section; root_table() joins them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codec.h"
#include "perigee/config/config.h"

namespace perigee::config {

// What one load collects before it becomes a Config: the settings, and what must be looked at as a whole.
struct Draft {
  struct WrittenPool {
    std::vector<std::string> workers;  // names
    Overload overload = Overload::none;
    bool batch = false;
  };

  Config config;
  std::vector<std::pair<std::string, WrittenPool>> pools;
};

// Built for who needs it, one for all who hold it, and then let go: megabytes that a running program does not need.
std::shared_ptr<const Table<Draft>> root_table();

// places_table.cpp
Codec<Listener> listener();
Codec<Admin> admin();
Codec<Worker> worker();
Codec<Route> route();
// tenants_table.cpp
Codec<Tenant> tenant();
Codec<RateLimit> rate_limit();
Codec<Redis> redis();
// tls_table.cpp
Codec<ServerTls> server_tls();
Codec<ClientTls> client_tls();
// load_table.cpp
Codec<Balancing> balancing();
Codec<std::uint32_t> provider_connections();
Codec<Limits> limits();
Codec<Slots> slots();
Codec<Pace> pace();
Codec<Starting> starting();
Codec<Queue> queue();
Codec<QueueWait> queue_wait();
Codec<Throttle> throttle();
Codec<Overload> overload();
// time_table.cpp
Codec<Clocks> clocks();
Codec<ClassOverrides> class_overrides();
Codec<Abandoned> abandoned();
Codec<Client> client();
Codec<Upstream> upstream();
// failure_table.cpp
Codec<Retries> retries();
Codec<Breaker> breaker();
Codec<Probe> probe();
// traffic_table.cpp
Codec<Heads> heads();
Codec<Bodies> bodies();
Codec<Memory> memory();
Codec<Cors> cors();
Codec<Tracing> tracing();
Codec<Sessions> sessions();
Codec<AccessLog> access_log();

// performance_table.cpp: the roadmap's block; each effect is a change of another section.
void add_performance(Table<Draft>& table);
// later_table.cpp: settings of features that this version does not have.
void add_later(Table<Draft>& table);

// Settings of the table of defaults that belong to such features and hold although nobody wrote them.
std::vector<NotYet> later_defaults();

// One field a class of work: `chat`, `embeddings` …
template <typename S, typename Member, typename M>
void add_classes(Table<S>& table, Member member, const Codec<M>& codec, const std::string& doc) {
  for (std::size_t i = 0; i < kClassCount; ++i) {
    const auto c = static_cast<RequestClass>(i);
    table.add(
        std::string(to_string(c)), [member, c](auto& s) -> auto& { return std::invoke(member, s).at(c); },
        codec, doc + " of class " + std::string(to_string(c)));
  }
}

}  // namespace perigee::config

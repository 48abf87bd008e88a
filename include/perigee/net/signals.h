// Signals of the process as callbacks on one loop.
#pragma once

#include <functional>
#include <memory>

namespace perigee::net {

class Loop;

class Signals {
 public:
  // `on_signal` runs on the loop's thread. Let the object go before the loop.
  Signals(Loop& loop, std::initializer_list<int> numbers, std::function<void(int)> on_signal);
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  ~Signals();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace perigee::net

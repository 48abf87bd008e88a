#include "perigee/net/signals.h"

#include <uv.h>

#include <vector>

#include "perigee/net/loop.h"

namespace perigee::net {

struct Signals::Impl {
  // Each handle lives until its close callback.
  struct One {
    uv_signal_t handle{};
    Impl* impl = nullptr;
  };
  std::vector<One*> handles;
  std::function<void(int)> on_signal;
};

Signals::Signals(Loop& loop, std::initializer_list<int> numbers, std::function<void(int)> on_signal)
    : impl_(std::make_unique<Impl>()) {
  impl_->on_signal = std::move(on_signal);
  for (const int number : numbers) {
    auto* one = new Impl::One;
    one->impl = impl_.get();
    uv_signal_init(loop.uv(), &one->handle);
    one->handle.data = one;
    uv_signal_start(
        &one->handle,
        [](uv_signal_t* h, int n) {
          Loop::of(h->loop).enter();
          static_cast<Impl::One*>(h->data)->impl->on_signal(n);
        },
        number);
    impl_->handles.push_back(one);
  }
}

Signals::~Signals() {
  for (Impl::One* one : impl_->handles) {
    uv_close(reinterpret_cast<uv_handle_t*>(&one->handle),
             [](uv_handle_t* h) { delete static_cast<Impl::One*>(h->data); });
  }
}

}  // namespace perigee::net

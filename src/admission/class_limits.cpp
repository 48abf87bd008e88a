#include "perigee/admission/class_limits.h"

#include <cassert>

namespace perigee::admission {

bool ClassLimits::may_start(RequestClass c, bool streamed) const {
  if (starting_[index(c)] >= values_[c]) return false;
  return !streamed || std::uint64_t{streams_} + streams_expected_ < values_.streams;
}

void ClassLimits::start(LimitHold& hold, RequestClass c, bool streamed) {
  assert(hold.phase == LimitHold::Phase::none);
  hold.request_class = c;
  hold.phase = LimitHold::Phase::before_first_event;
  hold.streamed = streamed;
  ++starting_[index(c)];
  if (streamed) ++streams_expected_;
}

void ClassLimits::became_stream(LimitHold& hold) {
  if (hold.phase != LimitHold::Phase::before_first_event || hold.streamed) return;
  hold.streamed = true;
  ++streams_expected_;
}

bool ClassLimits::first_event(LimitHold& hold) {
  if (hold.phase != LimitHold::Phase::before_first_event || !hold.streamed) return false;
  hold.phase = LimitHold::Phase::streaming;
  --starting_[index(hold.request_class)];
  --streams_expected_;
  ++streams_;
  return true;
}

void ClassLimits::end(LimitHold& hold) {
  if (hold.phase == LimitHold::Phase::before_first_event) {
    --starting_[index(hold.request_class)];
    if (hold.streamed) --streams_expected_;
  } else if (hold.phase == LimitHold::Phase::streaming) {
    --streams_;
  }
  hold.phase = LimitHold::Phase::none;
}

}  // namespace perigee::admission

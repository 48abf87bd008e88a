// Two keys: one seals, its predecessor still opens. They turn when somebody asks and the hour is over, so that
// nothing has to wake up for it.
#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <cstring>

#include "perigee/net/tls.h"

namespace perigee::net {
namespace {

std::optional<TlsTicketKeys::Key> new_key(TimePoint now) {
  TlsTicketKeys::Key key;
  key.made = now;
  const bool random = RAND_bytes(key.name.data(), static_cast<int>(key.name.size())) == 1 &&
                      RAND_priv_bytes(key.cipher.data(), static_cast<int>(key.cipher.size())) == 1 &&
                      RAND_priv_bytes(key.mac.data(), static_cast<int>(key.mac.size())) == 1;
  return random ? std::optional(key) : std::nullopt;
}

void forget(std::optional<TlsTicketKeys::Key>& key) {
  if (!key) return;
  OPENSSL_cleanse(key->cipher.data(), key->cipher.size());
  OPENSSL_cleanse(key->mac.data(), key->mac.size());
  key.reset();
}

}  // namespace

TlsTicketKeys::~TlsTicketKeys() {
  forget(current_);
  forget(previous_);
}

bool TlsTicketKeys::turn() {
  const TimePoint now = clock_.now();
  if (current_ && now - current_->made < kLife) return true;
  forget(previous_);
  // A key that nobody asked for in its second hour opens nothing any longer.
  if (current_ && now - current_->made < 2 * kLife) previous_ = current_;
  forget(current_);
  current_ = new_key(now);
  return current_.has_value();
}

std::optional<TlsTicketKeys::Key> TlsTicketKeys::sealing() {
  const std::lock_guard lock(mutex_);
  return turn() ? current_ : std::nullopt;
}

std::optional<TlsTicketKeys::Key> TlsTicketKeys::opening(const unsigned char* name, bool& fresh) {
  const std::lock_guard lock(mutex_);
  (void)turn();
  for (const std::optional<Key>* key : {&current_, &previous_}) {
    if (!*key || std::memcmp((*key)->name.data(), name, (*key)->name.size()) != 0) continue;
    fresh = key == &current_;
    return *key;
  }
  return std::nullopt;
}

}  // namespace perigee::net

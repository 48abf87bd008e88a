// What a TLS stream needs of its context. OpenSSL's types stay inside this room.
#pragma once

#include <openssl/ssl.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "perigee/net/tls.h"

namespace perigee::net {

template <auto Free>
struct OpensslFree {
  template <typename T>
  void operator()(T* thing) const {
    Free(thing);
  }
};
using SslPtr = std::unique_ptr<SSL, OpensslFree<SSL_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, OpensslFree<SSL_CTX_free>>;

// One side's settings; immutable but for the ticket that a client keeps.
class TlsContext {
 public:
  TlsContext(TlsSide side, std::string name, TlsEvents* events)
      : side_(side), name_(std::move(name)), events_(events) {}
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  virtual ~TlsContext() = default;

  // A connection's state, in its role; null when there is no memory.
  [[nodiscard]] virtual SslPtr open() const = 0;

  [[nodiscard]] TlsSide side() const { return side_; }
  void tell(TlsResult result, std::string_view peer, std::string_view detail) const {
    if (events_ != nullptr) events_->handshake(side_, result, name_, peer, detail);
  }

 private:
  TlsSide side_;
  std::string name_;
  TlsEvents* events_;
};

// A certificate each for the names that it holds; the first one for all others.
class TlsServer final : public TlsContext {
 public:
  TlsServer(std::string name, const TlsParts& parts)
      : TlsContext(TlsSide::client, std::move(name), parts.events), tickets_(parts.tickets) {}

  [[nodiscard]] SslPtr open() const override;
  // `name` in any case, with or without its last dot; null: none of ours.
  [[nodiscard]] SSL_CTX* certificate_for(std::string_view name) const;
  [[nodiscard]] TlsTicketKeys* tickets() const { return tickets_.get(); }

  // While it is made.
  void add(SslContextPtr context, const std::vector<std::string>& names);

 private:
  std::vector<SslContextPtr> contexts_;
  std::map<std::string, SSL_CTX*, std::less<>> exact_;
  std::map<std::string, SSL_CTX*, std::less<>> wildcard_;  // by what stands behind `*.`
  std::shared_ptr<TlsTicketKeys> tickets_;
};

class TlsClient final : public TlsContext {
 public:
  TlsClient(std::string name, const TlsParts& parts, SslContextPtr context, std::string sni)
      : TlsContext(TlsSide::worker, std::move(name), parts.events), context_(std::move(context)), sni_(std::move(sni)) {}
  ~TlsClient() override { SSL_SESSION_free(session_); }

  [[nodiscard]] SslPtr open() const override;
  // Keeps a copy of the newest session for the next connection. Any thread.
  void keep(SSL_SESSION* session) const;

 private:
  SslContextPtr context_;
  std::string sni_;  // empty: the worker is known by its address
  mutable std::mutex mutex_;
  mutable SSL_SESSION* session_ = nullptr;  // guarded by mutex_
};

}  // namespace perigee::net

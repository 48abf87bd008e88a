// A Stream over a Stream, with OpenSSL in between. OpenSSL sees neither socket nor buffer of its own: it reads
// from the bytes that the lower stream lends, and writes into one buffer of the thread, which goes down in one
// piece. Everything that arrives is opened in the same turn, so that nothing sealed is ever kept here; what
// nobody reads is kept as plain bytes and held back as with any stream.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstring>
#include <utility>

#include "layered_stream.h"
#include "tls_context.h"

namespace perigee::net {
namespace {

constexpr std::size_t kRecord = 16UL * 1024;  // the most that one record holds
constexpr std::size_t kSealAtOnce = 64UL * 1024;
constexpr std::size_t kPlain = 64UL * 1024;
constexpr std::size_t kOutKept = 128UL * 1024;
// What a peer may make us say (key updates) without reading it.
constexpr std::size_t kUnreadRepliesMax = 4 * kBacklogHigh;

// Memory that every TLS stream of a thread works in, within one call; none of it is in use between two.
struct Scratch {
  std::string out;                                              // sealed, on its way down
  std::unique_ptr<char[]> plain = std::make_unique_for_overwrite<char[]>(kPlain);   // opened, lent to the reader
  std::unique_ptr<char[]> joined = std::make_unique_for_overwrite<char[]>(kRecord); // small parts of one write
};
Scratch& scratch() {
  thread_local Scratch all;
  return all;
}

constexpr Error kEnded{ErrorKind::eof, Side::internal, Sent::maybe, 0, "the peer ended the connection"};
constexpr Error kTruncated{ErrorKind::reset, Side::internal, Sent::maybe, 0,
                           "the connection ended without TLS saying so"};
constexpr Error kLeftHandshake{ErrorKind::reset, Side::internal, Sent::nothing, 0,
                               "the peer left in the middle of the TLS handshake"};
constexpr Error kTooManyReplies{ErrorKind::reset, Side::internal, Sent::maybe, 0,
                                "the peer asks for TLS replies and does not read them"};

TlsResult of_verification(long verdict) {
  switch (verdict) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID: return TlsResult::certificate_expired;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: return TlsResult::certificate_name;
    default: return TlsResult::certificate_untrusted;
  }
}

bool is_alert(unsigned long code) { return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET; }

TlsResult result_of(unsigned long code, long verdict) {
  if (ERR_GET_LIB(code) != ERR_LIB_SSL) return TlsResult::other;
  switch (ERR_GET_REASON(code)) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return of_verification(verdict);
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED: return TlsResult::certificate_missing;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG: return TlsResult::not_tls;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION: return TlsResult::version;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS: return TlsResult::cipher;
    case SSL_R_NO_APPLICATION_PROTOCOL: return TlsResult::protocol;
    default: return is_alert(code) ? TlsResult::alert : TlsResult::other;
  }
}

class TlsStream final : public LayeredStream {
 public:
  TlsStream(StreamPtr lower, std::shared_ptr<const TlsContext> context, SslPtr ssl, std::string peer)
      : LayeredStream(std::move(lower)),
        context_(std::move(context)),
        ssl_(std::move(ssl)),
        shaking_(std::make_unique<Shaking>()) {
    shaking_->peer = std::move(peer);
  }

  // OpenSSL must not take a session for spoilt because nobody said goodbye: tickets are used again.
  ~TlsStream() override {
    if (ssl_ != nullptr) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  }

  // Right after the constructor. A client speaks first.
  void begin() {
    BIO* bio = ssl_ == nullptr ? nullptr : BIO_new(bio_method());
    if (bio == nullptr) {
      fail_handshake(TlsResult::other, Error{ErrorKind::exhausted, Side::internal, Sent::nothing, 0, "out of memory"});
      return;
    }
    BIO_set_data(bio, this);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl_.get(), bio, bio);
    if (context_->side() == TlsSide::worker) shake();
    catch_up();
  }

  [[nodiscard]] std::size_t backlog() const override {
    return below().backlog() + (shaking_ == nullptr ? 0 : 1 + shaking_->early.size());
  }
  [[nodiscard]] bool peer_has_left() const override { return ended() || below().peer_has_left(); }

  void shutdown() override {
    if (shut_) return;
    shut_ = true;
    if (shaking_ == nullptr) end_our_side();
  }
  void reset_on_close() override {
    reset_ = true;
    below().reset_on_close();
  }

 private:
  // What is needed only until the handshake is done.
  struct Shaking {
    std::string peer;
    std::string early;  // written meanwhile
  };

  // --- OpenSSL's side of the wire ---------------------------------------------------------------------------

  static BIO_METHOD* bio_method() {
    static BIO_METHOD* const method = [] {
      BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "perigee stream");
      BIO_meth_set_read(m, &bio_read);
      BIO_meth_set_write(m, &bio_write);
      BIO_meth_set_ctrl(m, [](BIO*, int command, long, void*) -> long { return command == BIO_CTRL_FLUSH ? 1 : 0; });
      return m;
    }();
    return method;
  }
  static int bio_read(BIO* bio, char* into, int wanted) {
    auto& self = *static_cast<TlsStream*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const std::size_t n = std::min(static_cast<std::size_t>(wanted), self.in_.size());
    if (n == 0) {
      BIO_set_retry_read(bio);
      return -1;
    }
    std::memcpy(into, self.in_.data(), n);
    self.in_ = self.in_.subspan(n);
    return static_cast<int>(n);
  }
  static int bio_write(BIO*, const char* from, int size) {
    scratch().out.append(from, static_cast<std::size_t>(size));
    return size;
  }
  // What OpenSSL has written goes down.
  Result<void> flush() {
    std::string& out = scratch().out;
    if (out.empty()) return {};
    auto sent = below().write(Bytes(out));
    out.clear();
    if (out.capacity() > kOutKept) out.shrink_to_fit();
    return sent;
  }

  // --- from below -------------------------------------------------------------------------------------------

  void below_received(Bytes bytes) override {
    in_ = bytes;
    busy_ = true;
    if (shaking_ != nullptr && !broken_) shake();
    if (shaking_ == nullptr && !broken_) open_records();
    busy_ = false;
    in_ = {};
    if (closed_) delete this;
  }
  void below_ended(const Error& error) override {
    if (shaking_ != nullptr) {
      fail_handshake(TlsResult::closed, error.kind == ErrorKind::eof ? kLeftHandshake : error);
    } else if (error.kind != ErrorKind::eof) {
      broken_ = true;
      received_end(error);
    } else if (!ended()) {
      broken_ = true;
      received_end(kTruncated);
    }
  }
  void below_writable() override { writable(); }

  // --- the handshake ------------------------------------------------------------------------------------------

  void shake() {
    ERR_clear_error();
    const int rc = SSL_do_handshake(ssl_.get());
    const int why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), rc);
    const unsigned long code = ERR_peek_error();
    (void)flush();  // an alert too; that the peer is gone shows in reading
    if (rc == 1) {
      shaken();
    } else if (why != SSL_ERROR_WANT_READ) {
      const char* text = ERR_reason_error_string(code);
      fail_handshake(result_of(code, SSL_get_verify_result(ssl_.get())),
                     Error{ErrorKind::reset, Side::internal, Sent::nothing, 0, text == nullptr ? "TLS failed" : text});
    }
  }
  void shaken() {
    const std::unique_ptr<Shaking> was = std::move(shaking_);
    context_->tell(SSL_session_reused(ssl_.get()) == 1 ? TlsResult::resumed : TlsResult::full, was->peer,
                   SSL_get_version(ssl_.get()));
    const Bytes early(was->early);
    if (!early.empty() && !seal(std::span<const Bytes>(&early, 1))) return;
    if (shut_) end_our_side();
    writable();
  }
  void fail_handshake(TlsResult result, const Error& error) {
    const std::unique_ptr<Shaking> was = std::move(shaking_);
    broken_ = true;
    // Who connects and says nothing, as health checks do, has failed at nothing.
    if (context_->side() == TlsSide::worker || below().bytes_in() > 0) context_->tell(result, was->peer, error.detail);
    received_end(error);
  }

  // --- records ------------------------------------------------------------------------------------------------

  // Opens all of `in_` and hands it to the reader, who may close this stream at any time.
  void open_records() {
    char* const plain = scratch().plain.get();
    for (int rc = 1; rc == 1 && !closed_;) {
      std::size_t got = 0;
      ERR_clear_error();
      while (got < kPlain) {
        std::size_t n = 0;
        rc = SSL_read_ex(ssl_.get(), plain + got, kPlain - got, &n);
        if (rc != 1) break;
        got += n;
      }
      const int why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_.get(), rc);
      const unsigned long code = ERR_peek_error();
      const Error* unread = reply();
      if (got > 0) received({plain, got});
      if (closed_) return;
      if (unread != nullptr) {
        break_off(*unread);
      } else if (why == SSL_ERROR_ZERO_RETURN) {
        received_end(kEnded);
      } else if (why != SSL_ERROR_NONE && why != SSL_ERROR_WANT_READ) {
        broken_by(code);
      }
      if (ended()) return;
    }
  }
  // Reading may have made us say something; not without end to who does not listen.
  const Error* reply() {
    if (scratch().out.empty()) return nullptr;
    (void)flush();
    return below().backlog() > kUnreadRepliesMax ? &kTooManyReplies : nullptr;
  }
  void broken_by(unsigned long code) {
    // In TLS 1.3 a server judges our certificate when our handshake is over.
    if (context_->side() == TlsSide::worker && bytes_in() == 0 && is_alert(code)) {
      const char* text = ERR_reason_error_string(code);
      context_->tell(result_of(code, X509_V_OK), {}, text == nullptr ? "" : text);
    }
    const char* text = ERR_reason_error_string(code);
    break_off(Error{ErrorKind::reset, Side::internal, Sent::maybe, 0, text == nullptr ? "TLS failed" : text});
  }
  void break_off(const Error& error) {
    broken_ = true;
    received_end(error);
  }

  Result<void> send(std::span<const Bytes> parts, std::size_t) override {
    if (shut_) return fail(ErrorKind::reset, "written after our end");
    if (broken_) return fail(ErrorKind::reset, "the connection was reset");
    if (shaking_ == nullptr) return seal(parts);
    for (const Bytes& part : parts) shaking_->early.append(part.data(), part.size());
    return {};
  }
  // Small parts share a record; large ones are sealed where they lie.
  Result<void> seal(std::span<const Bytes> parts) {
    char* const joined = scratch().joined.get();
    std::size_t held = 0;
    for (const Bytes& whole : parts) {
      Bytes part = whole;
      const bool last = &whole == &parts.back();
      while (!part.empty()) {
        if (held == 0 && (part.size() >= kRecord || last)) {
          const std::size_t n = part.size() <= kRecord ? part.size() : std::min(part.size() / kRecord * kRecord, kSealAtOnce);
          TRY_VOID(seal_one(part.first(n)));
          part = part.subspan(n);
          continue;
        }
        const std::size_t n = std::min(part.size(), kRecord - held);
        std::memcpy(joined + held, part.data(), n);
        held += n;
        part = part.subspan(n);
        if (held == kRecord) TRY_VOID(seal_one({joined, std::exchange(held, 0)}));
      }
    }
    if (held > 0) return seal_one({joined, held});
    return {};
  }
  Result<void> seal_one(Bytes plain) {
    ERR_clear_error();
    std::size_t written = 0;
    const bool sealed = SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &written) == 1;
    auto sent = flush();
    if (sealed) return sent;
    broken_ = true;
    return fail(ErrorKind::reset, "TLS failed");
  }

  void pause_reading(bool pause) override { hold_below(pause); }

  // --- the end ------------------------------------------------------------------------------------------------

  void say_goodbye() {
    if (broken_) return;
    ERR_clear_error();
    (void)SSL_shutdown(ssl_.get());
    (void)flush();
  }
  void end_our_side() {
    say_goodbye();
    below().shutdown();
  }
  void close() override {
    if (shaking_ != nullptr) {
      if (context_->side() == TlsSide::worker || below().bytes_in() > 0)
        context_->tell(TlsResult::timeout, shaking_->peer, "ended before the handshake was done");
    } else if (!shut_ && !reset_ && below().backlog() == 0) {
      say_goodbye();  // what was written is out: the peer need not take this for a break
    }
    closed_ = true;
    drop_below();
    if (!busy_) delete this;
  }

  std::shared_ptr<const TlsContext> context_;
  SslPtr ssl_;
  std::unique_ptr<Shaking> shaking_;
  Bytes in_;             // what has come and OpenSSL has not taken yet, within one call
  bool busy_ = false;    // in below_received(): whoever closes this stream there must not delete it
  bool closed_ = false;
  bool shut_ = false;
  bool reset_ = false;
  bool broken_ = false;  // TLS has failed: nothing can be written any longer, not even goodbye
};

StreamPtr layer(StreamPtr below, std::shared_ptr<const TlsContext> context, std::string peer) {
  SslPtr ssl = context->open();
  auto* stream = new TlsStream(std::move(below), std::move(context), std::move(ssl), std::move(peer));
  StreamPtr owned(stream);
  stream->begin();
  return owned;
}

}  // namespace

StreamPtr accept_tls(StreamPtr below, TlsServerPtr server, const Peer& peer) {
  return layer(std::move(below), std::move(server), std::string(peer.text.data()));
}

coro::Task<Result<StreamPtr>> connect_tls(Connector& connector, const Endpoint& to, TlsClientPtr client) {
  auto connected = co_await connector.connect(to);
  if (!connected || client == nullptr) co_return std::move(connected);
  StreamPtr stream = layer(std::move(*connected), client, {});
  const auto shaken = co_await stream->drained(0);
  if (shaken) co_return stream;
  Error error = shaken.error();
  if (error.kind == ErrorKind::reset || error.kind == ErrorKind::io) error.kind = ErrorKind::refused;
  error.sent = Sent::nothing;
  co_return std::unexpected(error);
}

}  // namespace perigee::net

// What TLS adds to a stream: whom it lets in, whom it believes, what it makes of a cut. Both ends in memory; what
// every stream promises is tested over TLS by stream_test.cpp.
#include "perigee/net/tls.h"

#include <openssl/ssl.h>

#include <optional>

#include "tls_worlds.h"

namespace perigee::test {
namespace {

using coro::Task;
using config::ClientAuth;

constexpr std::int64_t kNow = 1'700'000'000;

// One connection between the two contexts, from the wire up to the first word each way.
struct Meeting {
  bool connected = false;  // as the client sees it when its handshake is done …
  Error error{};
  bool spoke = false;      // … and whether it then got an answer
};

Task<void> answer_once(net::Stream& stream) {
  auto got = co_await stream.read();
  if (!got) co_return;
  (void)stream.write(net::Bytes("hello client", 12));
  // Until the other side has gone: closing earlier could look like a cut.
  ErrorKind end{};
  (void)co_await read_all(stream, end);
}

Task<Meeting> meet(coro::ManualLoop& loop, TlsContexts& tls, net::LinkRules rules) {
  net::MemoryLink link(loop.executor(), std::move(rules));
  net::Peer peer;
  net::StreamPtr theirs = net::accept_tls(link.take(1), tls.server, peer);
  coro::Scope scope(loop.executor());
  scope.spawn(answer_once(*theirs));
  Meeting meeting;
  auto ours = co_await coro::with_timeout(1s, kLate, shake_hands(link.take(0), tls.client));
  meeting.connected = ours.has_value();
  if (!ours) {
    meeting.error = ours.error();
  } else {
    (void)(*ours)->write(net::Bytes("hello server", 12));
    auto answer = co_await read_bytes(**ours, 12);
    meeting.spoke = answer == "hello client";
    ours->reset();
  }
  scope.cancel(kStop);
  co_await scope.join();
  co_return meeting;
}

Task<Meeting> meet(coro::ManualLoop& loop, TlsContexts& tls) { return meet(loop, tls, net::LinkRules()); }

using Results = std::vector<TlsResult>;

CORO_TEST("tls: the certificate is chosen by name; the client checks that it is for that name") {
  struct Row {
    const char* name;
    TlsResult client;
  };
  const std::vector<Row> rows = {{"orbit.test", TlsResult::full},
                                 {"ORBIT.test", TlsResult::full},
                                 {"localhost", TlsResult::full},
                                 {"127.0.0.1", TlsResult::full},
                                 {"other.test", TlsResult::full},
                                 {"a.wild.test", TlsResult::full},
                                 {"wild.test", TlsResult::certificate_name},
                                 {"a.b.wild.test", TlsResult::certificate_name},
                                 {"nobody.test", TlsResult::certificate_name},
                                 {"127.0.0.2", TlsResult::certificate_name}};
  for (const Row& row : rows) {
    CAPTURE(row.name);
    TlsSettings settings;
    settings.client.server_name = row.name;
    TlsContexts tls(settings);
    const Meeting meeting = co_await meet(loop, tls);
    CHECK(meeting.spoke == (row.client == TlsResult::full));
    CHECK(tls.log.of_workers == Results{row.client});
    CHECK(tls.log.of_clients == Results{row.client == TlsResult::full ? TlsResult::full : TlsResult::alert});
    if (meeting.connected) continue;
    CHECK(meeting.error.kind == ErrorKind::refused);
    CHECK(meeting.error.sent == Sent::nothing);
  }
}

CORO_TEST("tls: the first certificate serves who asks for no name that we have") {
  TlsSettings settings;
  settings.server.certificates = {certificate("other"), certificate("server")};
  settings.client.server_name = "127.0.0.1";  // asks for none; `other` is not for it
  TlsContexts tls(settings);
  (void)co_await meet(loop, tls);
  CHECK(tls.log.of_workers == Results{TlsResult::certificate_name});
}

CORO_TEST("tls: who is believed") {
  struct Row {
    const char* title;
    void (*change)(TlsSettings&);
    TlsResult worker;
  };
  const std::vector<Row> rows = {
      {"another CA", [](TlsSettings& s) { s.client.ca_file = tls_file("stranger-ca.pem"); }, TlsResult::certificate_untrusted},
      {"the system's CAs", [](TlsSettings& s) { s.client.ca_file.clear(); }, TlsResult::certificate_untrusted},
      {"a stranger's certificate", [](TlsSettings& s) { s.server.certificates = {certificate("stranger")}; },
       TlsResult::certificate_untrusted},
      {"expired", [](TlsSettings& s) { s.server.certificates = {certificate("expired")}; }, TlsResult::certificate_expired},
      {"a client's certificate for a server", [](TlsSettings& s) {
         s.server.certificates = {certificate("client")};
         s.client.ca_file = tls_file("clients-ca.pem");
       }, TlsResult::certificate_untrusted},
      {"nobody checks", [](TlsSettings& s) {
         s.server.certificates = {certificate("expired")};
         s.client.verify = false;
       }, TlsResult::full}};
  for (const Row& row : rows) {
    CAPTURE(row.title);
    TlsSettings settings;
    row.change(settings);
    TlsContexts tls(settings);
    const Meeting meeting = co_await meet(loop, tls);
    CHECK(meeting.spoke == (row.worker == TlsResult::full));
    CHECK(tls.log.of_workers == Results{row.worker});
  }
}

CORO_TEST("tls: certificates of clients") {
  struct Row {
    const char* title;
    ClientAuth auth;
    const char* shows;  // null: none
    TlsResult server;
  };
  const std::vector<Row> rows = {{"none asked, none shown", ClientAuth::none, nullptr, TlsResult::full},
                                 {"none asked, one shown", ClientAuth::none, "stranger", TlsResult::full},
                                 {"optional, none", ClientAuth::optional, nullptr, TlsResult::full},
                                 {"optional, good", ClientAuth::optional, "client", TlsResult::full},
                                 {"optional, a stranger's", ClientAuth::optional, "stranger", TlsResult::certificate_untrusted},
                                 {"required, good", ClientAuth::required, "client", TlsResult::full},
                                 {"required, none", ClientAuth::required, nullptr, TlsResult::certificate_missing},
                                 {"required, a stranger's", ClientAuth::required, "stranger", TlsResult::certificate_untrusted},
                                 {"required, a server's", ClientAuth::required, "server", TlsResult::certificate_untrusted}};
  for (const Row& row : rows) {
    CAPTURE(row.title);
    TlsSettings settings;
    settings.server.client_auth = row.auth;
    if (row.auth != ClientAuth::none) settings.server.client_ca = tls_file("clients-ca.pem");
    if (row.shows != nullptr) {
      settings.client.cert = certificate(row.shows).cert;
      settings.client.key = certificate(row.shows).key;
    }
    TlsContexts tls(settings);
    const Meeting meeting = co_await meet(loop, tls);
    CHECK(meeting.spoke == (row.server == TlsResult::full));
    CHECK(tls.log.of_clients == Results{row.server});
    if (row.server == TlsResult::full) continue;
    // In 1.3 the client has finished before it is judged; it is told all the same.
    REQUIRE(tls.log.of_workers.size() == 2);
    CHECK_FALSE(succeeded(tls.log.of_workers[1]));
  }
}

CORO_TEST("tls: sessions are resumed, by keys that turn, and only under the same rules") {
  TlsContexts tls;
  (void)co_await meet(loop, tls);
  CHECK(tls.log.of_clients == Results{TlsResult::full});
  tls.log.clear();
  for (int i = 0; i < 3; ++i) {
    const Meeting meeting = co_await meet(loop, tls);
    CHECK(meeting.spoke);
  }
  CHECK(tls.log.of_clients == Results(3, TlsResult::resumed));
  CHECK(tls.log.of_workers == Results(3, TlsResult::resumed));

  // Reloaded: other contexts, the same keys.
  const net::TlsClientPtr with_ticket = tls.client;
  const auto reloaded = [&](const TlsSettings& settings) {
    tls.set(settings);
    tls.client = with_ticket;
    tls.log.clear();
  };
  reloaded(TlsSettings());
  (void)co_await meet(loop, tls);
  CHECK(tls.log.of_clients == Results{TlsResult::resumed});

  tls.clock.advance(net::TlsTicketKeys::kLife);
  tls.log.clear();
  (void)co_await meet(loop, tls);  // the old key opens; a ticket of the new one comes back
  tls.clock.advance(net::TlsTicketKeys::kLife);
  (void)co_await meet(loop, tls);
  CHECK(tls.log.of_clients == Results(2, TlsResult::resumed));
  tls.clock.advance(3 * net::TlsTicketKeys::kLife);
  tls.log.clear();
  (void)co_await meet(loop, tls);
  CHECK(tls.log.of_clients == Results{TlsResult::full});

  // What was not asked of the client when it got its ticket is asked now.
  TlsSettings stricter;
  stricter.server.client_auth = ClientAuth::required;
  stricter.server.client_ca = tls_file("clients-ca.pem");
  reloaded(stricter);
  (void)co_await meet(loop, tls);
  CHECK(tls.log.of_clients == Results{TlsResult::certificate_missing});
}

TEST_CASE("tls: a ticket key seals for its life and opens for another") {
  ManualClock clock;
  net::TlsTicketKeys keys(clock);
  const auto first = keys.sealing();
  REQUIRE(first);
  bool fresh = false;
  CHECK(keys.opening(first->name.data(), fresh).has_value());
  CHECK(fresh);
  clock.advance(net::TlsTicketKeys::kLife - 1ns);
  CHECK(keys.sealing()->name == first->name);
  clock.advance(1ns);
  const auto second = keys.sealing();
  CHECK(second->name != first->name);
  CHECK(second->cipher != first->cipher);
  const auto old = keys.opening(first->name.data(), fresh);
  REQUIRE(old);
  CHECK(old->cipher == first->cipher);
  CHECK_FALSE(fresh);
  clock.advance(net::TlsTicketKeys::kLife);
  CHECK_FALSE(keys.opening(first->name.data(), fresh).has_value());
  CHECK(keys.opening(second->name.data(), fresh).has_value());
  // Nobody came for long: nothing old is left.
  clock.advance(5 * net::TlsTicketKeys::kLife);
  CHECK_FALSE(keys.opening(second->name.data(), fresh).has_value());
}

CORO_TEST("tls: byte by byte, both ways") {
  TlsContexts tls;
  const Meeting meeting = co_await meet(loop, tls, net::byte_by_byte());
  CHECK(meeting.spoke);
  CHECK(tls.log.of_clients == Results{TlsResult::full});
}

// --- somebody in the middle -----------------------------------------------------------------------------------

// Two wires and a hand between them that may cut or change what passes from the server to the client.
struct Middle {
  explicit Middle(coro::ManualLoop& loop)
      : left(loop.executor()), right(loop.executor()), near(left.take(1)), far(right.take(0)), scope(loop.executor()) {
    scope.spawn(pass(*near, *far, nullptr));
    scope.spawn(pass(*far, *near, &tamper));
  }
  static Task<void> pass(net::Stream& from, net::Stream& to, const bool* tamper) {
    for (;;) {
      auto got = co_await from.read();
      if (!got) co_return;
      std::string bytes(got->data(), got->size());
      if (tamper != nullptr && *tamper) bytes.back() = static_cast<char>(bytes.back() ^ 1);
      (void)to.write(net::Bytes(bytes));
    }
  }
  Task<void> end() {
    scope.cancel(kStop);
    co_await scope.join();
  }
  net::MemoryLink left, right;
  net::StreamPtr near, far;  // our ends, towards the client and towards the server
  bool tamper = false;
  coro::Scope scope;
};

CORO_TEST("tls: a FIN without close_notify is a break, after what came before it") {
  TlsContexts tls;
  Middle middle(loop);
  net::Peer peer;
  net::StreamPtr server = net::accept_tls(middle.right.take(1), tls.server, peer);
  auto client = co_await shake_hands(middle.left.take(0), tls.client);
  REQUIRE(client.has_value());
  (void)server->write(net::Bytes("half an answer", 14));
  co_await nap(1ms);
  middle.near->shutdown();
  ErrorKind end{};
  auto got = co_await read_all(**client, end);
  CHECK(got == "half an answer");
  CHECK(end == ErrorKind::reset);
  CHECK_FALSE((*client)->write(net::Bytes("x", 1)).has_value());
  co_await middle.end();
}

CORO_TEST("tls: cut within a record, and its watch hears it") {
  TlsContexts tls;
  net::MemoryLink link(loop.executor(), net::byte_by_byte());
  net::Peer peer;
  net::StreamPtr server = net::accept_tls(link.take(1), tls.server, peer);
  auto client = co_await shake_hands(link.take(0), tls.client);
  REQUIRE(client.has_value());
  co_await nap(1ms);
  coro::CancelSource gone;
  (*client)->watch_end(&gone, Side::upstream);
  (void)server->write(net::Bytes(std::string(1000, 'x')));
  link.break_off();
  co_await nap(1ms);
  REQUIRE(gone.cancelled());
  CHECK(gone.reason().kind == ErrorKind::reset);
  CHECK((*client)->pending() == 0);  // nothing of a record that is not whole
}

CORO_TEST("tls: a changed byte breaks the connection and is never read") {
  TlsContexts tls;
  Middle middle(loop);
  net::Peer peer;
  net::StreamPtr server = net::accept_tls(middle.right.take(1), tls.server, peer);
  auto client = co_await shake_hands(middle.left.take(0), tls.client);
  REQUIRE(client.has_value());
  (void)server->write(net::Bytes("true", 4));
  auto first = co_await read_bytes(**client, 4);
  CHECK(first == "true");
  middle.tamper = true;
  (void)server->write(net::Bytes("false", 5));
  ErrorKind end{};
  auto got = co_await read_all(**client, end);
  CHECK(got.empty());
  CHECK(end == ErrorKind::reset);
  CHECK_FALSE((*client)->write(net::Bytes("x", 1)).has_value());
  // The other side is told by an alert.
  auto told = co_await read_all(*server, end);
  CHECK(told.empty());
  CHECK(end == ErrorKind::reset);
  co_await middle.end();
}

// --- how handshakes fail ----------------------------------------------------------------------------------------

CORO_TEST("tls: something that is not TLS, somebody who leaves, somebody who never speaks") {
  TlsContexts tls;
  net::Peer peer;
  ErrorKind end{};
  {
    net::MemoryLink link(loop.executor());
    net::StreamPtr server = net::accept_tls(link.take(1), tls.server, peer);
    net::StreamPtr raw = link.take(0);
    (void)raw->write(net::Bytes("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27));
    auto got = co_await read_all(*server, end);
    CHECK(got.empty());
    CHECK(end == ErrorKind::reset);
  }
  CHECK(tls.log.of_clients == Results{TlsResult::not_tls});
  tls.log.clear();
  {
    net::MemoryLink link(loop.executor());
    net::StreamPtr server = net::accept_tls(link.take(1), tls.server, peer);
    net::StreamPtr raw = link.take(0);
    (void)raw->write(net::Bytes("\x16\x03\x01\x02", 4));
    co_await nap(1ms);
    raw.reset();
    (void)co_await read_all(*server, end);
    CHECK(end == ErrorKind::reset);
  }
  CHECK(tls.log.of_clients == Results{TlsResult::closed});
  tls.log.clear();
  {
    net::MemoryLink link(loop.executor());
    net::StreamPtr server = net::accept_tls(link.take(1), tls.server, peer);
    net::StreamPtr raw = link.take(0);
    (void)raw->write(net::Bytes("\x16\x03\x01\x02", 4));
    co_await nap(1ms);
    server.reset();  // as a clock does
  }
  CHECK(tls.log.of_clients == Results{TlsResult::timeout});
  tls.log.clear();
  {
    // A health check that only connects.
    net::MemoryLink link(loop.executor());
    net::StreamPtr server = net::accept_tls(link.take(1), tls.server, peer);
    link.take(0).reset();
    (void)co_await read_all(*server, end);
    CHECK(end == ErrorKind::reset);
  }
  CHECK(tls.log.of_clients.empty());
}

CORO_TEST("tls: a worker that does not speak TLS, or says nothing, is no connection") {
  TlsContexts tls;
  {
    net::MemoryLink link(loop.executor());
    net::StreamPtr plain = link.take(1);
    (void)plain->write(net::Bytes("HTTP/1.1 400 Bad Request\r\n\r\n", 28));
    auto made = co_await shake_hands(link.take(0), tls.client);
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().kind == ErrorKind::refused);
    CHECK(made.error().sent == Sent::nothing);
  }
  CHECK(tls.log.of_workers == Results{TlsResult::not_tls});
  tls.log.clear();
  {
    net::MemoryLink link(loop.executor());
    net::StreamPtr silent = link.take(1);
    auto made = co_await coro::with_timeout(2s, kLate, shake_hands(link.take(0), tls.client));
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().kind == ErrorKind::timeout);
    CHECK(made.error().sent == Sent::nothing);
  }
  CHECK(tls.log.of_workers == Results{TlsResult::timeout});
  tls.log.clear();
  {
    net::MemoryLink link(loop.executor());
    link.take(1).reset();
    auto made = co_await shake_hands(link.take(0), tls.client);
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error().kind == ErrorKind::refused);
  }
  CHECK(tls.log.of_workers == Results{TlsResult::closed});
}

CORO_TEST("tls: without a context connect_tls only connects") {
  net::MemoryLink link(loop.executor());
  net::StreamPtr far = link.take(1);
  auto made = co_await shake_hands(link.take(0), nullptr);
  REQUIRE(made.has_value());
  (void)(*made)->write(net::Bytes("plain", 5));
  auto got = co_await read_bytes(*far, 5);
  CHECK(got == "plain");
}

CORO_TEST("tls: bytes that came before the layer was there are the beginning of the handshake") {
  TlsContexts tls;
  net::MemoryLink link(loop.executor());
  net::StreamPtr lower = link.take(1);
  coro::Scope scope(loop.executor());
  std::optional<Meeting> client;
  struct Client {
    static Task<void> run(net::StreamPtr stream, net::TlsClientPtr how, std::optional<Meeting>& into) {
      auto made = co_await shake_hands(std::move(stream), std::move(how));
      Meeting meeting;
      meeting.connected = made.has_value();
      into = meeting;
    }
  };
  scope.spawn(Client::run(link.take(0), tls.client, client));
  co_await nap(1ms);
  REQUIRE(lower->has_pending());
  net::Peer peer;
  net::StreamPtr server = net::accept_tls(std::move(lower), tls.server, peer);
  co_await scope.join();
  REQUIRE(client.has_value());
  CHECK(client->connected);
}

CORO_TEST("tls: written before the handshake is done, delivered after it") {
  TlsContexts tls;
  net::MemoryLink link(loop.executor());
  net::Peer peer;
  net::StreamPtr server = net::accept_tls(link.take(1), tls.server, peer);
  CHECK(server->backlog() == 1);
  (void)server->write(net::Bytes("early ", 6));
  (void)server->write(net::Bytes("words", 5));
  CHECK(server->backlog() == 12);
  server->shutdown();
  auto client = co_await shake_hands(link.take(0), tls.client);
  REQUIRE(client.has_value());
  ErrorKind end{};
  auto got = co_await read_all(**client, end);
  CHECK(got == "early words");
  CHECK(end == ErrorKind::eof);
  CHECK(server->backlog() == 0);
}

CORO_TEST("tls: who asks for replies without end and reads none is cut off, and costs a bound of memory") {
  TlsContexts tls;
  net::LinkRules narrow;
  narrow.capacity = 4096;
  net::MemoryLink link(loop.executor(), narrow);
  net::Peer peer;
  net::StreamPtr server = net::accept_tls(link.take(1), tls.server, peer);
  net::StreamPtr raw = link.take(0);
  // A client of OpenSSL's own, by hand.
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL* ssl = SSL_new(context);
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl, in, out);
  SSL_set_connect_state(ssl);
  const auto send = [&] {
    std::array<char, 16384> piece;
    for (int n; (n = BIO_read(out, piece.data(), piece.size())) > 0;) (void)raw->write(net::Bytes(piece.data(), static_cast<std::size_t>(n)));
  };
  while (SSL_do_handshake(ssl) != 1) {
    send();
    auto got = co_await raw->read();
    REQUIRE(got.has_value());
    BIO_write(in, got->data(), static_cast<int>(got->size()));
  }
  send();
  const auto shaken = co_await server->drained(0);
  REQUIRE(shaken.has_value());
  coro::CancelSource cut;
  server->watch_end(&cut, Side::client);
  std::size_t most = 0;
  int asked = 0;
  for (; asked < 100'000 && !cut.cancelled(); ++asked) {
    SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(ssl);
    send();
    if (asked % 50 == 0) co_await nap(1ms);
    most = std::max(most, server->backlog());
  }
  CHECK(cut.cancelled());
  CHECK(asked > 1000);
  CHECK(most < 6 * net::kBacklogHigh);
  SSL_free(ssl);
  SSL_CTX_free(context);
}

// --- files --------------------------------------------------------------------------------------------------------

TEST_CASE("tls: what is wrong with a file is said with its name") {
  struct Row {
    const char* title;
    void (*change)(TlsSettings&);
    const char* file;
    const char* says;
  };
  const std::vector<Row> rows = {
      {"missing", [](TlsSettings& s) { s.server.certificates[0].cert = tls_file("gone.pem"); }, "gone.pem", "No such file"},
      {"a folder", [](TlsSettings& s) { s.server.certificates[0].cert = tls_file(""); }, "/tls/", "not a regular file"},
      {"no PEM", [](TlsSettings& s) { s.server.certificates[0].cert = tls_file("make.sh"); }, "make.sh", "no certificate"},
      {"a key for a certificate", [](TlsSettings& s) { s.server.certificates[0].cert = tls_file("server.key"); }, "server.key",
       "no certificate"},
      {"no key", [](TlsSettings& s) { s.server.certificates[0].key = tls_file("server.pem"); }, "server.pem", "no private key"},
      {"another's key", [](TlsSettings& s) { s.server.certificates[1] = certificate("other", "server"); }, "server.key",
       "does not belong"},
      {"an encrypted key", [](TlsSettings& s) { s.server.certificates[0].key = tls_file("encrypted.key"); }, "encrypted.key",
       "no passphrase"},
      {"no CA of clients",
       [](TlsSettings& s) {
         s.server.client_auth = ClientAuth::required;
         s.server.client_ca = tls_file("gone.pem");
       },
       "gone.pem", "No such file"},
      {"no CA of workers", [](TlsSettings& s) { s.client.ca_file = tls_file("client.key"); }, "client.key", "no certificate"},
      {"no certificate of ours",
       [](TlsSettings& s) {
         s.client.cert = tls_file("client.pem");
         s.client.key = tls_file("stranger.key");
       },
       "stranger.key", "does not belong"}};
  for (const Row& row : rows) {
    CAPTURE(row.title);
    TlsSettings settings;
    row.change(settings);
    net::TlsNotes notes;
    const net::TlsParts parts{nullptr, nullptr, kNow * 1000};
    const auto server = net::load_tls_server(settings.server, "l", parts, notes);
    const auto client = net::load_tls_client(settings.client, "w", "h", parts, notes);
    REQUIRE((server.has_value() != client.has_value()));
    const std::string error = server ? client.error() : server.error();
    CAPTURE(error);
    CHECK(error.find(row.file) != std::string::npos);
    CHECK(error.find(row.says) != std::string::npos);
  }
}

TEST_CASE("tls: a certificate out of its time is used, and told") {
  TlsSettings settings;
  settings.server.certificates.push_back(certificate("expired"));
  const auto notes_at = [&](std::int64_t now) {
    net::TlsNotes notes;
    CHECK(net::load_tls_server(settings.server, "l", {nullptr, nullptr, now * 1000}, notes).has_value());
    return notes;
  };
  const net::TlsNotes now = notes_at(kNow);
  REQUIRE(now.warnings.size() == 1);
  CHECK(now.warnings[0].find("expired.pem") != std::string::npos);
  CHECK(now.warnings[0].find("has expired") != std::string::npos);
  CHECK(now.earliest_expiry == 978'307'200);  // 2001-01-01
  const net::TlsNotes early = notes_at(950'000'000);  // in 2000, when only that one is valid
  CHECK(early.warnings.size() == 2);
  CHECK(early.warnings[0].find("not valid yet") != std::string::npos);
}

}  // namespace
}  // namespace perigee::test

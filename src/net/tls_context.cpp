// From files to contexts: certificates, keys and trust are read whole and judged before anything is used.
//
// Ciphers and versions are those of Mozilla's intermediate profile without finite-field Diffie-Hellman: forward
// secrecy and authenticated encryption only. Renegotiation, compression and early data are off.
#include "tls_context.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

namespace perigee::net {
namespace {

constexpr const char* kCiphers =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr const char* kGroups = "X25519:P-256:P-384";
constexpr std::size_t kFileMax = 1024UL * 1024;
// ALPN's form: a length before each name.
constexpr std::array<unsigned char, 9> kAlpn = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

using X509Ptr = std::unique_ptr<X509, OpensslFree<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, OpensslFree<BIO_free_all>>;
using SessionPtr = std::unique_ptr<SSL_SESSION, OpensslFree<SSL_SESSION_free>>;
using StorePtr = std::unique_ptr<X509_STORE, OpensslFree<X509_STORE_free>>;
using Problem = std::unexpected<std::string>;

// --- files -------------------------------------------------------------------------------------------------

std::string reason() {
  const unsigned long code = ERR_peek_last_error();
  const char* text = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  return text == nullptr ? "OpenSSL gives no reason" : text;
}

Problem problem(const std::string& file, const std::string& why) { return Problem(file + ": " + why); }

std::expected<std::string, std::string> read_file(const std::string& path) {
  // Not to wait for the writer of a pipe.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return problem(path, std::strerror(errno));
  struct stat about {};
  std::string bytes;
  ssize_t got = -1;
  if (::fstat(fd, &about) == 0 && S_ISREG(about.st_mode)) {
    std::array<char, 16UL * 1024> piece;
    while ((got = ::read(fd, piece.data(), piece.size())) > 0 && bytes.size() <= kFileMax)
      bytes.append(piece.data(), static_cast<std::size_t>(got));
  } else {
    errno = EINVAL;
  }
  const int code = errno;
  ::close(fd);
  if (got < 0) return problem(path, code == EINVAL ? "not a regular file" : std::strerror(code));
  if (bytes.size() > kFileMax) return problem(path, "larger than 1 MiB");
  return bytes;
}

BioPtr open_text(const std::string& text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Asked for the passphrase of a key: we have none, and nobody sits at a terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

// All certificates of a file, at least one.
std::expected<std::vector<X509Ptr>, std::string> read_certificates(const std::string& path) {
  auto text = read_file(path);
  if (!text) return Problem(text.error());
  const BioPtr bio = open_text(*text);
  std::vector<X509Ptr> all;
  ERR_clear_error();
  while (X509* one = PEM_read_bio_X509_AUX(bio.get(), nullptr, no_passphrase, nullptr)) all.emplace_back(one);
  const unsigned long last = ERR_peek_last_error();
  const bool at_end = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
  if (!at_end) return problem(path, "not a certificate: " + reason());
  ERR_clear_error();
  if (all.empty()) return problem(path, "holds no certificate in PEM form");
  return all;
}

std::expected<KeyPtr, std::string> read_key(const std::string& path) {
  auto text = read_file(path);
  if (!text) return Problem(text.error());
  const BioPtr bio = open_text(*text);
  ERR_clear_error();
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  const bool encrypted = text->find("ENCRYPTED") != std::string::npos;
  OPENSSL_cleanse(text->data(), text->size());
  if (key != nullptr) return key;
  return problem(path, encrypted ? "the key is encrypted; Perigee asks for no passphrase"
                                 : "holds no private key in PEM form: " + reason());
}

// --- one certificate of ours -----------------------------------------------------------------------------

// Seconds since 1970; nothing for a time that makes no sense.
std::optional<std::int64_t> seconds_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
  return static_cast<std::int64_t>(timegm(&parts));
}

void judge_validity(const X509* certificate, const std::string& path, const TlsParts& parts, TlsNotes& notes) {
  const std::int64_t now = parts.wall_ms / 1000;
  const auto from = seconds_of(X509_get0_notBefore(certificate));
  const auto until = seconds_of(X509_get0_notAfter(certificate));
  if (until) notes.expires(*until);
  if (until && *until <= now) notes.warnings.push_back(path + ": the certificate has expired");
  if (from && *from > now) notes.warnings.push_back(path + ": the certificate is not valid yet");
}

// Puts certificate, chain and key into `context`.
std::expected<X509Ptr, std::string> use_pair(SSL_CTX* context, const config::Certificate& files, const TlsParts& parts,
                                             TlsNotes& notes) {
  auto chain = read_certificates(files.cert);
  if (!chain) return Problem(chain.error());
  auto key = read_key(files.key);
  if (!key) return Problem(key.error());
  ERR_clear_error();
  if (SSL_CTX_use_certificate(context, chain->front().get()) != 1) return problem(files.cert, reason());
  if (X509_check_private_key(chain->front().get(), key->get()) != 1) {
    ERR_clear_error();
    return problem(files.key, "the key does not belong to the certificate in " + files.cert);
  }
  if (SSL_CTX_use_PrivateKey(context, key->get()) != 1) return problem(files.key, reason());
  for (std::size_t i = 1; i < chain->size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context, (*chain)[i].get()) != 1) return problem(files.cert, reason());
  }
  judge_validity(chain->front().get(), files.cert, parts, notes);
  return std::move(chain->front());
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

// The DNS names that a certificate is for, in lower case.
std::vector<std::string> names_of(const X509* certificate) {
  std::vector<std::string> names;
  auto* all = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(all); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(all, i);
    if (name->type != GEN_DNS) continue;
    const ASN1_STRING* text = name->d.dNSName;
    names.push_back(lower({reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                           static_cast<std::size_t>(ASN1_STRING_length(text))}));
  }
  GENERAL_NAMES_free(all);
  return names;
}

// --- what both sides have ---------------------------------------------------------------------------------

SslContextPtr new_context(const SSL_METHOD* method, config::TlsVersion least) {
  SslContextPtr context(SSL_CTX_new(method));
  if (context == nullptr) return nullptr;
  SSL_CTX* c = context.get();
  SSL_CTX_set_options(c, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  const bool good =
      SSL_CTX_set_min_proto_version(c, least == config::TlsVersion::tls13 ? TLS1_3_VERSION : TLS1_2_VERSION) == 1 &&
      SSL_CTX_set_cipher_list(c, kCiphers) == 1 && SSL_CTX_set1_groups_list(c, kGroups) == 1;
  SSL_CTX_set_default_passwd_cb(c, no_passphrase);
  return good ? std::move(context) : nullptr;
}

// --- the server's side --------------------------------------------------------------------------------------

const TlsServer* server_of(SSL* ssl) {
  return static_cast<const TlsServer*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
}

int choose_certificate(SSL* ssl, int*, void*) {
  const char* asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  if (asked == nullptr) return SSL_TLSEXT_ERR_NOACK;
  SSL_CTX* found = server_of(ssl)->certificate_for(asked);
  if (found == nullptr) return SSL_TLSEXT_ERR_NOACK;
  return SSL_set_SSL_CTX(ssl, found) != nullptr ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// HTTP/1.1 or nothing: what asks for something else only would not understand us.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in, unsigned in_size,
                    void*) {
  for (unsigned at = 0; at < in_size; at += 1U + in[at]) {
    const bool same = in[at] == kAlpn[0] && at + kAlpn.size() <= in_size &&
                      std::memcmp(in + at, kAlpn.data(), kAlpn.size()) == 0;
    if (!same) continue;
    *out = in + at + 1;
    *out_size = in[at];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

int with_key(const TlsTicketKeys::Key& key, const unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, bool seal) {
  // OpenSSL takes these through pointers to non-const and does not write to them.
  TlsTicketKeys::Key copy = key;
  std::array<char, 7> digest{"SHA256"};
  const std::array<OSSL_PARAM, 3> parts{
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, copy.mac.data(), copy.mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest.data(), 0), OSSL_PARAM_construct_end()};
  const bool good = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, copy.cipher.data(), iv, seal ? 1 : 0) == 1 &&
                    EVP_MAC_CTX_set_params(mac, parts.data()) == 1;
  OPENSSL_cleanse(&copy, sizeof copy);
  return good ? 1 : -1;
}

// 1: go on; 2: the ticket is good and a new one is due; 0: unknown ticket, a full handshake; -1: broken.
int ticket_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, int seal) {
  TlsTicketKeys* keys = server_of(ssl)->tickets();
  if (keys == nullptr) return 0;
  if (seal != 0) {
    const auto key = keys->sealing();
    if (!key || RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) return -1;
    std::memcpy(name, key->name.data(), key->name.size());
    return with_key(*key, iv, cipher, mac, true);
  }
  bool fresh = false;
  const auto key = keys->opening(name, fresh);
  if (!key) return 0;
  const int done = with_key(*key, iv, cipher, mac, false);
  return done == 1 && !fresh ? 2 : done;
}

// Who may sign clients' certificates, and what they are told of it.
struct ClientTrust {
  StorePtr store;
  std::vector<X509Ptr> signers;
  std::string bytes;  // of the file, for the tickets' context
};

std::expected<ClientTrust, std::string> read_trust(const std::string& path) {
  auto signers = read_certificates(path);
  if (!signers) return Problem(signers.error());
  ClientTrust trust{StorePtr(X509_STORE_new()), std::move(*signers), {}};
  for (const X509Ptr& signer : trust.signers) {
    if (X509_STORE_add_cert(trust.store.get(), signer.get()) != 1) return problem(path, reason());
    unsigned char* der = nullptr;
    const int size = i2d_X509(signer.get(), &der);
    if (size > 0) trust.bytes.append(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
    OPENSSL_free(der);
  }
  return trust;
}

std::expected<void, std::string> ask_for_certificates(SSL_CTX* context, const config::ServerTls& how,
                                                      const ClientTrust& trust) {
  const int must = how.client_auth == config::ClientAuth::required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | must, nullptr);
  if (SSL_CTX_set1_verify_cert_store(context, trust.store.get()) != 1) return problem(how.client_ca, reason());
  for (const X509Ptr& signer : trust.signers) {
    if (SSL_CTX_add_client_CA(context, signer.get()) != 1) return problem(how.client_ca, reason());
  }
  return {};
}

// A ticket is good only where the same was asked of the client that got it: another CA, another rule, and a
// full handshake follows.
bool set_ticket_context(SSL_CTX* context, const config::ServerTls& how, const std::string& trust) {
  const std::string all = std::string(1, static_cast<char>(how.client_auth)) + trust;
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  return EVP_Digest(all.data(), all.size(), digest.data(), &size, EVP_sha256(), nullptr) == 1 &&
         SSL_CTX_set_session_id_context(context, digest.data(), std::min<unsigned>(size, SSL_MAX_SID_CTX_LENGTH)) == 1;
}

// --- the client's side ----------------------------------------------------------------------------------------

int keep_session(SSL* ssl, SSL_SESSION* session) {
  static_cast<const TlsClient*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)))->keep(session);
  return 0;  // the connection's own one stays with it
}

std::expected<void, std::string> trust_workers(SSL_CTX* context, const config::ClientTls& how, const std::string& name,
                                               bool is_ip) {
  if (!how.verify) {
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nullptr);
    return {};
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  if (how.ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) != 1) return Problem("the system's certificates: " + reason());
  } else {
    auto signers = read_certificates(how.ca_file);
    if (!signers) return Problem(signers.error());
    X509_STORE* store = SSL_CTX_get_cert_store(context);
    for (const X509Ptr& signer : *signers) {
      if (X509_STORE_add_cert(store, signer.get()) != 1) return problem(how.ca_file, reason());
    }
  }
  X509_VERIFY_PARAM* param = SSL_CTX_get0_param(context);
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  const int set = is_ip ? X509_VERIFY_PARAM_set1_ip_asc(param, name.c_str())
                        : X509_VERIFY_PARAM_set1_host(param, name.c_str(), name.size());
  if (set != 1) return Problem("`" + name + "` is no name that a certificate could hold");
  return {};
}

}  // namespace

// --- TlsServer ------------------------------------------------------------------------------------------------

void TlsServer::add(SslContextPtr context, const std::vector<std::string>& names) {
  SSL_CTX_set_app_data(context.get(), this);
  for (const std::string& name : names) {
    // The first certificate for a name keeps it.
    if (name.starts_with("*.")) {
      wildcard_.emplace(name.substr(2), context.get());
    } else {
      exact_.emplace(name, context.get());
    }
  }
  contexts_.push_back(std::move(context));
}

SSL_CTX* TlsServer::certificate_for(std::string_view asked) const {
  if (asked.ends_with('.')) asked.remove_suffix(1);
  const std::string name = lower(asked);
  if (const auto found = exact_.find(name); found != exact_.end()) return found->second;
  const std::size_t dot = name.find('.');
  if (dot == std::string::npos || dot == 0) return nullptr;
  const auto found = wildcard_.find(std::string_view(name).substr(dot + 1));
  return found == wildcard_.end() ? nullptr : found->second;
}

SslPtr TlsServer::open() const {
  SslPtr ssl(SSL_new(contexts_.front().get()));
  if (ssl != nullptr) SSL_set_accept_state(ssl.get());
  return ssl;
}

std::expected<TlsServerPtr, std::string> load_tls_server(const config::ServerTls& how, std::string name,
                                                         const TlsParts& parts, TlsNotes& notes) {
  auto server = std::make_shared<TlsServer>(std::move(name), parts);
  ClientTrust trust;
  const bool ask = how.client_auth != config::ClientAuth::none;
  if (ask) {
    auto read = read_trust(how.client_ca);
    if (!read) return Problem(read.error());
    trust = std::move(*read);
  }
  for (const config::Certificate& files : how.certificates) {
    SslContextPtr context = new_context(TLS_server_method(), how.min_version);
    if (context == nullptr || !set_ticket_context(context.get(), how, trust.bytes)) return problem(files.cert, reason());
    auto used = use_pair(context.get(), files, parts, notes);
    if (!used) return Problem(used.error());
    if (ask) {
      if (auto asked = ask_for_certificates(context.get(), how, trust); !asked) return Problem(asked.error());
    }
    // The macro of this name casts as C does.
    SSL_CTX_callback_ctrl(context.get(), SSL_CTRL_SET_TLSEXT_SERVERNAME_CB,
                          reinterpret_cast<void (*)()>(choose_certificate));
    SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context.get(), ticket_key);
    SSL_CTX_set_timeout(context.get(), std::chrono::duration_cast<std::chrono::seconds>(TlsTicketKeys::kLife).count());
    server->add(std::move(context), names_of(used->get()));
  }
  return server;
}

// --- TlsClient ------------------------------------------------------------------------------------------------

SslPtr TlsClient::open() const {
  SslPtr ssl(SSL_new(context_.get()));
  if (ssl == nullptr) return ssl;
  SSL_set_connect_state(ssl.get());
  const bool named = sni_.empty() || SSL_ctrl(ssl.get(), SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                                              const_cast<char*>(sni_.c_str())) == 1;
  if (!named) return nullptr;
  // A copy each: OpenSSL writes to the one that a connection holds.
  const std::lock_guard lock(mutex_);
  if (session_ == nullptr) return ssl;
  const SessionPtr copy(SSL_SESSION_dup(session_));
  if (copy != nullptr) SSL_set_session(ssl.get(), copy.get());
  return ssl;
}

void TlsClient::keep(SSL_SESSION* session) const {
  SSL_SESSION* copy = SSL_SESSION_dup(session);
  const std::lock_guard lock(mutex_);
  SSL_SESSION_free(session_);
  session_ = copy;
}

std::expected<TlsClientPtr, std::string> load_tls_client(const config::ClientTls& how, std::string name,
                                                         const std::string& host, const TlsParts& parts,
                                                         TlsNotes& notes) {
  SslContextPtr context = new_context(TLS_client_method(), how.min_version);
  if (context == nullptr) return Problem("OpenSSL: " + reason());
  SSL_CTX* c = context.get();
  const std::string& known_as = how.server_name.empty() ? host : how.server_name;
  const bool is_ip = config::parse_ip(known_as).has_value();
  if (auto trusted = trust_workers(c, how, known_as, is_ip); !trusted) return Problem(trusted.error());
  if (!how.cert.empty()) {
    auto used = use_pair(c, {how.cert, how.key}, parts, notes);
    if (!used) return Problem(used.error());
  }
  if (SSL_CTX_set_alpn_protos(c, kAlpn.data(), static_cast<unsigned>(kAlpn.size())) != 0) return Problem("OpenSSL: " + reason());
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(c, keep_session);
  auto client = std::make_shared<TlsClient>(std::move(name), parts, std::move(context), is_ip ? std::string() : known_as);
  SSL_CTX_set_app_data(c, client.get());
  return client;
}

}  // namespace perigee::net

// TLS, towards clients and towards workers. Files are only named here: whether they can be read, and belong
// together, is found by net when they are.
#include "tables.h"
#include "values.h"

namespace perigee::config {
namespace {

Codec<std::string> file() {
  return text({.longest = 1024, .expected = "a file's path"});
}

// Text in which one word stands for "not written".
Codec<std::string> or_word(Codec<std::string> inner, std::string word) {
  Codec<std::string> codec = inner;
  codec.read = [read = inner.read, word](Reader& r, const Node& n, std::string& out) {
    if (n.kind == Node::Kind::scalar && n.text == word) {
      out.clear();
      return true;
    }
    return read(r, n, out);
  };
  codec.write = [word](const std::string& value, Show) { return Json(value.empty() ? word : value); };
  return codec;
}

Codec<TlsVersion> version() {
  Codec<TlsVersion> codec = one_of<TlsVersion>(kTlsVersionNames);
  // YAML takes it for a number where it is not in quotes.
  codec.schema = {{"anyOf", Json::array({codec.schema, Json{{"enum", {1.2, 1.3}}}})}};
  return codec;
}

Codec<Certificate> certificate() {
  Table<Certificate> t;
  t.add("cert", &Certificate::cert, file(), "PEM file with the certificate, then its chain").required();
  t.add("key", &Certificate::key, file(), "PEM file with its key, not encrypted").required();
  return section(std::move(t));
}

}  // namespace

Codec<ServerTls> server_tls() {
  Table<ServerTls> t;
  t.add("certificates", &ServerTls::certificates, list_of(certificate(), 64),
        "Chosen by the name that a client asks for, of those in the certificates; the first one for all others")
      .required();
  t.add("client_ca", &ServerTls::client_ca, or_word(file(), "none"), "PEM file of those who sign clients' certificates");
  t.add("client_auth", &ServerTls::client_auth, one_of<ClientAuth>(kClientAuthNames),
        "What clients must show: nothing, a good certificate or none, a good certificate");
  t.add("min_version", &ServerTls::min_version, version(), "Oldest version of TLS");
  return section(std::move(t));
}

Codec<ClientTls> client_tls() {
  const auto name = text({.longest = 253, .allowed = ".-_:", .expected = "a host's name or address"});
  Table<ClientTls> t;
  t.add("verify", &ClientTls::verify, yes_or_no(), "Whether a worker's certificate and name are checked");
  t.add("ca_file", &ClientTls::ca_file, or_word(file(), "system"), "PEM file of those who sign workers' certificates");
  t.add("server_name", &ClientTls::server_name, or_word(name, "host"),
        "Name to ask for and to look for; `host` = the one in the URL");
  t.add("cert", &ClientTls::cert, or_word(file(), "none"), "PEM file with our own certificate, then its chain");
  t.add("key", &ClientTls::key, or_word(file(), "none"), "PEM file with its key, not encrypted");
  t.add("min_version", &ClientTls::min_version, version(), "Oldest version of TLS");
  return section(std::move(t));
}

}  // namespace perigee::config

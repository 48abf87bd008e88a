#include "conformance.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "passing.h"
#include "strict_reader.h"

namespace perigee::test {
namespace {

using Json = nlohmann::ordered_json;

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
}

// JSON has text, the cases have bytes: the characters up to U+00FF stand for them.
std::string latin1(const std::string& utf8) {
  std::string bytes;
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const auto c = static_cast<unsigned char>(utf8[i]);
    if (c < 0x80) {
      bytes.push_back(utf8[i]);
    } else {
      bytes.push_back(static_cast<char>(((c & 0x03) << 6) | (static_cast<unsigned char>(utf8[++i]) & 0x3f)));
    }
  }
  return bytes;
}

// {x*20} = twenty times x; {fields*3} = three field lines without the last line's end.
std::string expand(std::string text) {
  for (std::size_t at = text.find('{'); at != std::string::npos; at = text.find('{', at + 1)) {
    const std::size_t star = text.find('*', at);
    const std::size_t end = text.find('}', at);
    if (star == std::string::npos || end == std::string::npos || star > end) continue;
    const std::string what = text.substr(at + 1, star - at - 1);
    const std::string digits = text.substr(star + 1, end - star - 1);
    const bool counted = !digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos;
    if (!counted || (what.size() != 1 && what != "fields")) continue;
    std::string by;
    const int times = std::atoi(digits.c_str());
    for (int i = 0; i < times; ++i) {
      if (what == "fields") {
        by.append(i == 0 ? "" : "\r\n").append("X-" + std::to_string(i) + ": " + std::to_string(i));
      } else {
        by.append(what);
      }
    }
    text.replace(at, end + 1 - at, by);
  }
  return text;
}

// {ours} = the lines that Perigee itself adds to a request. They are tested one by one in forward_test.cpp.
std::string with_our_lines(std::string text, const std::string& send, const std::string& id) {
  const bool host_sent = lower_case(send).find("\nhost:") != std::string::npos;
  for (std::size_t at = text.find("{ours"); at != std::string::npos; at = text.find("{ours")) {
    const bool old = text.compare(at, 10, "{ours 1.0}") == 0;
    const std::size_t name = text.rfind("\r\nHost: ", at) + 8;
    const std::string host = text.substr(name, text.find('\r', name) - name);
    std::string lines = old ? "Via: 1.0 perigee\r\n" : "Via: 1.1 perigee\r\n";
    lines.append("X-Forwarded-For: ").append(kPeer).append("\r\nX-Forwarded-Proto: http\r\n");
    if (host_sent) lines.append("X-Forwarded-Host: ").append(host).append("\r\n");
    lines.append("X-Real-IP: ").append(kPeer).append("\r\nX-Request-ID: ").append(id).append("\r\n");
    text.replace(at, old ? 10 : 6, lines);
  }
  return text;
}

Json read_file(const char* name) {
  const std::string path = std::string(PERIGEE_TEST_DATA) + "/conformance/" + name;
  std::ifstream file(path);
  Json json = Json::parse(file, nullptr, false);
  if (json.is_discarded() || !json.is_object()) {
    std::fprintf(stderr, "%s cannot be read\n", path.c_str());
    std::abort();
  }
  return json;
}

std::string text_of(const Json& item, const char* key) {
  return expand(latin1(item.value(key, std::string())));
}

}  // namespace

const std::map<std::string, std::vector<RequestCase>>& request_cases() {
  static const auto kCases = [] {
    std::map<std::string, std::vector<RequestCase>> all;
    const Json file = read_file("requests.json");
    for (const auto& [group, items] : file.items()) {
      for (const Json& item : items) {
        RequestCase c;
        c.rule = latin1(item.at("rule"));
        c.send = text_of(item, "send");
        c.status = item.value("status", 0);
        const std::string id = item.contains("id") ? text_of(item, "id") : std::string(kOurId);
        c.forwarded = with_our_lines(text_of(item, "forwarded"), c.send, id);
        c.incomplete = item.value("incomplete", false);
        c.closes = item.value("closes", false);
        c.continues = item.value("continues", false);
        c.sockets_only = item.value("only", std::string()) == "sockets";
        all[group].push_back(std::move(c));
      }
    }
    return all;
  }();
  return kCases;
}

const std::map<std::string, std::vector<AnswerCase>>& answer_cases() {
  static const auto kCases = [] {
    std::map<std::string, std::vector<AnswerCase>> all;
    const Json file = read_file("answers.json");
    for (const auto& [group, items] : file.items()) {
      for (const Json& item : items) {
        AnswerCase c;
        c.rule = latin1(item.at("rule"));
        c.asked = item.value("asked", "GET");
        c.send = text_of(item, "send");
        c.ends = item.value("ends", false);
        c.refused = item.value("refused", false);
        c.delivered = text_of(item, "delivered");
        replace_all(c.delivered, "{date}", "Date: now\r\n");
        replace_all(c.delivered, "{id}", "X-Request-ID: " + std::string(kOurId) + "\r\n");
        c.cut = item.value("cut", false);
        c.kept = item.value("kept", false);
        c.incomplete = item.value("incomplete", false);
        all[group].push_back(std::move(c));
      }
    }
    return all;
  }();
  return kCases;
}

}  // namespace perigee::test

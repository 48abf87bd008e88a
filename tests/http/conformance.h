// The cases of tests/data/conformance; its README.md says what they hold. tests/scenarios sends the same ones to
// the program.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace perigee::test {

struct RequestCase {
  std::string rule;
  std::string send;
  int status = 0;             // refused with it, after what is forwarded; 0 = not refused
  std::string forwarded;      // every byte that reaches the worker
  bool incomplete = false;    // more bytes are waited for
  bool closes = false;        // the connection ends after the answer
  bool continues = false;     // the client waits for a 100
  bool sockets_only = false;  // what decides lies above this room
};

struct AnswerCase {
  std::string rule;
  std::string asked;  // GET, HEAD, websocket, 1.0, 1.0 kept
  std::string send;
  bool ends = false;       // the worker closes behind it
  bool refused = false;    // the client gets a 502 of ours
  std::string delivered;   // else every byte that the client gets
  bool cut = false;        // … and then no orderly end
  bool kept = false;       // the worker's connection may carry another request
  bool incomplete = false;
};

// By class. A fault in a file ends the program with a word of it.
const std::map<std::string, std::vector<RequestCase>>& request_cases();
const std::map<std::string, std::vector<AnswerCase>>& answer_cases();

}  // namespace perigee::test

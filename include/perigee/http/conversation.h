// How a conversation begins: what of a chat's body stays the same from its first turn to its last.
//
// OpenAI clients send the whole conversation each time, so its first system and user messages name it. One pass over the
// bytes that are there, no tree, no allocation. Texts are views of the JSON as it was written, quotes or brackets
// included, cut after 4 KiB; what is broken or behind the end of what was looked at is empty, and no error.
#pragma once

#include <cstddef>
#include <string_view>

namespace perigee::http {

inline constexpr std::size_t kConversationLook = 64 * 1024;
inline constexpr std::size_t kConversationText = 4 * 1024;

struct ConversationStart {
  std::string_view system;  // content of the first message with role system or developer, before the first user's
  std::string_view user;    // content of the first message with role user
  std::string_view person;  // the top-level `user`: whom the caller speaks for
};

// `body`: its first bytes, of which no more than kConversationLook are looked at: what more has come by chance must not
// make a difference.
[[nodiscard]] ConversationStart conversation_start(std::string_view body);

}  // namespace perigee::http

// Who may look: the checks in front of every admin page. Pure.
#pragma once

#include <string_view>

namespace perigee::admin {

// A browser that was lured to us by a name (DNS rebinding) says that name in Host. Addresses, `localhost`
// and names under it are ours.
[[nodiscard]] bool host_is_local(std::string_view authority);

// A page of another site that makes a browser send a change says where it is from in Origin: that must be the
// name by which we were asked. No Origin: no browser.
[[nodiscard]] bool origin_is_ours(std::string_view origin, std::string_view authority);

// `authorization`: the field's value. Takes the same time wherever the tokens differ.
[[nodiscard]] bool bearer_matches(std::string_view authorization, std::string_view token);

}  // namespace perigee::admin

// Configuration text: whatever it is, the loader answers within bounds, with a configuration or with places and words;
// it never reads a file that it was not pointed to, and what it takes it takes again.
#include "fuzz.h"
#include "perigee/config/loader.h"
#include "tables.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace perigee;
  static const auto kept_table = config::root_table();  // building it is most of what a load costs
  const std::string_view text = fuzz::text_of(data, size);
  const config::Environment environment = [](std::string_view name) -> std::optional<std::string> {
    if (name == "SET") return "7";
    return {};
  };
  const config::LoadResult loaded = config::parse(text, "/nowhere/perigee.yaml", environment);
  if (!loaded) {
    fuzz::demand(!loaded.error().empty(), "refused without a word");
    for (const config::Diagnostic& d : loaded.error()) {
      fuzz::demand(!d.message.empty() && d.place.line >= 0 && d.place.column >= 0, "a diagnostic without place or text");
    }
    fuzz::demand(!config::format_diagnostics(loaded.error()).empty(), "nothing to print");
    return 0;
  }
  fuzz::demand(loaded->config != nullptr, "accepted, and there is none");
  fuzz::demand(!config::format_check_report(*loaded).empty(), "nothing to print");
  (void)config::why_not_startable(*loaded->config);
  const config::LoadResult again = config::parse(text, "/nowhere/perigee.yaml", environment);
  fuzz::demand(again.has_value() && *again->config == *loaded->config, "the same text, another configuration");
  return 0;
}

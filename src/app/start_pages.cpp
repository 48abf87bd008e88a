#include "start_pages.h"

#include <cstdint>

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

namespace perigee::app {
namespace {

#ifdef NDEBUG
constexpr bool kDebugged = false;
#else
constexpr bool kDebugged = true;
#endif

// Read-only segments only: they hold what their file holds. Others have been written, by relocation at least.
int give_back_segments(dl_phdr_info* object, std::size_t, void* page_size) {
  const std::uintptr_t page = *static_cast<const std::uintptr_t*>(page_size);
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    const std::uintptr_t from = (object->dlpi_addr + segment.p_vaddr) & ~(page - 1);
    const std::uintptr_t to = (object->dlpi_addr + segment.p_vaddr + segment.p_memsz + page - 1) & ~(page - 1);
    // Advice: where the kernel will not have it (its own vdso), nothing is lost.
    madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);  // NOLINT(performance-no-int-to-ptr)
  }
  return 0;
}

}  // namespace

void give_back_start_pages() {
  malloc_trim(0);
  if (kDebugged) return;
  auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  dl_iterate_phdr(give_back_segments, &page);
}

}  // namespace perigee::app

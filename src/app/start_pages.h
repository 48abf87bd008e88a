// What only the start needed of memory, given back once the program is up.
#pragma once

namespace perigee::app {

// Returns freed heap to the kernel, and takes out of resident memory the pages of code and constants of the program and
// its libraries: most of them were read to parse the configuration and set libraries up, and are not wanted again
// soon. What is used comes back from the page cache, a minor fault for some 64 KiB, without a disk in normal times.
// A debug build keeps its pages: a debugger's breakpoints live in them. For the control thread, once.
void give_back_start_pages();

}  // namespace perigee::app

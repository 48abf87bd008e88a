// Single processes, from a made-up /proc and from the real one.
#include "perigee/health/process_stats.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake_tree.h"

using namespace perigee;
using namespace perigee::health;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const TimePoint kStart{seconds(1000)};

std::string stat_line(int pid, const char* name, int user, int system, int start, int pages) {
  return std::to_string(pid) + " (" + name + ") S 1 2 3 4 5 6 7 8 9 10 " + std::to_string(user) + " " +
         std::to_string(system) + " 0 0 20 0 4 0 " + std::to_string(start) + " 1000000 " +
         std::to_string(pages) + " 18446744073709551615 0 0\n";
}

constexpr const char* kHeadings =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

std::string socket_line(const char* local, const char* state, int inode) {
  return std::string("   0: ") + local + " 00000000:0000 " + state +
         " 00000000:00000000 00:00000000 00000000  1000        0 " + std::to_string(inode) +
         " 1 0000000000000000 100 0 0 10 0\n";
}

}  // namespace

TEST_CASE("no such process, and a line that is cut") {
  FakeTree tree;
  const ProcessReader reader(tree.root.string());
  CHECK_FALSE(reader.read(7));
  CHECK_FALSE(reader.read_self());
  tree.write("proc/7/stat", "7 (python");
  CHECK_FALSE(reader.read(7));
  tree.write("proc/7/stat", "7 (python) S 1 2 3");
  CHECK_FALSE(reader.read(7));
}

TEST_CASE("the name may hold parentheses and blanks") {
  FakeTree tree;
  tree.write("proc/7/stat", stat_line(7, "evil) S 9 (x y", 250, 50, 12345, 100));
  const auto c = ProcessReader(tree.root.string()).read(7);
  REQUIRE(c);
  CHECK(c->pid == 7);
  CHECK(c->cpu_seconds == doctest::Approx(300.0 / static_cast<double>(::sysconf(_SC_CLK_TCK))));
  CHECK(c->start_ticks == 12345);
  CHECK(c->resident_bytes == 100 * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  CHECK_FALSE(c->open_descriptors);  // no fd folder that we may read: unknown, not 0
  CHECK_FALSE(c->read_bytes);
  CHECK_FALSE(c->start_time_seconds);
}

TEST_CASE("what else there is") {
  FakeTree tree;
  tree.write("proc/stat", "cpu 1 2 3\nbtime 1700000000\n");
  tree.write("proc/7/stat", stat_line(7, "python", 1, 1, 500, 1));
  tree.write("proc/7/limits",
             "Limit                     Soft Limit           Hard Limit           Units\n"
             "Max open files            20000                20000                files\n");
  tree.write("proc/7/io", "rchar: 1\nread_bytes: 4096\nwrite_bytes: 8192\n");
  for (int fd = 0; fd < 5; ++fd)
    tree.link("proc/7/fd/" + std::to_string(fd), "/dev/null");
  tree.write("proc/7/task/7/children", "8 9 ");
  const ProcessReader reader(tree.root.string());
  const auto c = reader.read(7);
  REQUIRE(c);
  CHECK(c->descriptors_max == 20000);
  CHECK(c->open_descriptors == 5);
  CHECK(c->read_bytes == 4096);
  CHECK(c->written_bytes == 8192);
  CHECK(*c->start_time_seconds ==
        doctest::Approx(1.7e9 + 500.0 / static_cast<double>(::sysconf(_SC_CLK_TCK))));
  CHECK(reader.children(7) == std::vector<int>{8, 9});
  CHECK(reader.children(8).empty());
}

TEST_CASE("cores in use between two looks; another process under the same pid is another process") {
  ProcessStats stats;
  ProcessCounters c;
  c.pid = 7;
  c.start_ticks = 1;
  c.cpu_seconds = 10;
  CHECK_FALSE(stats.cores(c, kStart));
  c.cpu_seconds = 10.4;
  CHECK_FALSE(stats.cores(c, kStart + milliseconds(400)));  // too soon: ticks are 10 ms
  c.cpu_seconds = 10.9;
  CHECK(*stats.cores(c, kStart + seconds(1)) == doctest::Approx(.9));
  c.start_ticks = 2;
  c.cpu_seconds = 99;
  CHECK_FALSE(stats.cores(c, kStart + seconds(2)));
  c.cpu_seconds = 100;
  CHECK(*stats.cores(c, kStart + seconds(3)) == doctest::Approx(1));
}

TEST_CASE("who listens: own address and all addresses, not neighbours, not connections") {
  FakeTree tree;
  tree.write("proc/net/tcp", kHeadings + socket_line("0100007F:0BB9", "0A", 111)  // 127.0.0.1:3001
                                 + socket_line("0100007F:0BB9", "01", 112)        // a connection to it
                                 + socket_line("00000000:0BBA", "0A", 113)        // 0.0.0.0:3002
                                 + socket_line("0200007F:0BBB", "0A", 114));      // 127.0.0.2:3003
  tree.write("proc/net/tcp6",
             kHeadings + socket_line("00000000000000000000000001000000:0BBC", "0A", 115)  // [::1]:3004
                 + socket_line("00000000000000000000000000000000:0BBD", "0A", 116)        // [::]:3005
                 + socket_line("0000000000000000FFFF00000100007F:0BBE", "0A", 117));      // ::ffff:127.0.0.1
  const auto holds = [&](int pid, int inode) {
    tree.link("proc/" + std::to_string(pid) + "/fd/3", "socket:[" + std::to_string(inode) + "]");
  };
  holds(50, 111);
  holds(9, 111);  // a server with two processes on one socket
  holds(60, 112);
  holds(61, 113);
  holds(62, 114);
  holds(63, 115);
  holds(64, 116);
  holds(65, 117);
  const ProcessReader reader(tree.root.string());
  CHECK(reader.find_listeners("127.0.0.1", 3001) == std::vector<int>{9, 50});
  CHECK(reader.find_listeners("127.0.0.1", 3002) == std::vector<int>{61});
  CHECK(reader.find_listeners("127.0.0.1", 3003).empty());
  CHECK(reader.find_listeners("::1", 3004) == std::vector<int>{63});
  CHECK(reader.find_listeners("127.0.0.1", 3004).empty());
  CHECK(reader.find_listeners("127.0.0.1", 3005) == std::vector<int>{64});
  CHECK(reader.find_listeners("::1", 3005) == std::vector<int>{64});
  CHECK(reader.find_listeners("127.0.0.1", 3006) == std::vector<int>{65});
  CHECK(reader.find_listeners("127.0.0.1", 9).empty());
  CHECK(reader.find_listeners("no address", 3001).empty());
}

TEST_CASE("ourselves, really") {
  const ProcessReader reader;
  const auto self = reader.read_self();
  REQUIRE(self);
  CHECK(self->pid == ::getpid());
  CHECK(self->resident_bytes > 100'000);
  CHECK(*self->open_descriptors >= 3);
  CHECK(*self->start_time_seconds > 1.6e9);

  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
  REQUIRE(::listen(fd, 1) == 0);
  socklen_t length = sizeof at;
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &length) == 0);
  CHECK(reader.find_listeners("127.0.0.1", ::ntohs(at.sin_port)) == std::vector<int>{::getpid()});
  ::close(fd);
  CHECK(reader.find_listeners("127.0.0.1", ::ntohs(at.sin_port)).empty());
}

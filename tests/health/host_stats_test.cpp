// CPU and memory of host and control group, from trees of files as kernels of both versions show them.
#include "perigee/health/host_stats.h"

#include <filesystem>

#include "fake_tree.h"

using namespace perigee;
using namespace perigee::health;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const TimePoint kStart{seconds(1000)};

struct Version2 : FakeTree {
  Version2() {
    write("proc/stat", "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\nbtime 1700000000\n");
    write("proc/meminfo", "MemTotal:        8000 kB\nMemFree:  100 kB\nMemAvailable:    2000 kB\n");
    write("sys/devices/system/cpu/online", "0-7\n");
    write("proc/self/cgroup", "0::/app.slice/orbit.service\n");
    write("proc/self/mountinfo",
          "22 1 0:20 / /proc rw - proc proc rw\n"
          "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
    write(own("cpu.stat"),
          "usage_usec 1000000\nuser_usec 1\nnr_periods 100\nnr_throttled 10\nthrottled_usec 5\n");
    write(own("cpu.max"), "max 100000\n");
    write("sys/fs/cgroup/app.slice/cpu.max", "150000 100000\n");
    write(own("memory.current"), "700000\n");
    write(own("memory.stat"), "anon 5\ninactive_file 200000\nactive_file 7\n");
    write(own("memory.max"), "max\n");
    write(own("memory.events"), "low 0\noom 3\noom_kill 2\n");
    write("sys/fs/cgroup/app.slice/memory.max", "1000000\n");
  }
  static std::string own(const char* file) {
    return std::string("sys/fs/cgroup/app.slice/orbit.service/") + file;
  }
  HostCounters read() const { return HostReader(root.string()).read(); }
};

}  // namespace

TEST_CASE("lists of CPUs") {
  CHECK(count_cpu_list("0-3,8-11\n") == 8);
  CHECK(count_cpu_list("0") == 1);
  CHECK(count_cpu_list("0,2,4-5") == 4);
  for (const char* bad : {"", "\n", "-", "3-1", "0-", "a", "0-99999999999", "0,,1", "-1"}) {
    CAPTURE(bad);
    CHECK_FALSE(count_cpu_list(bad));
  }
}

TEST_CASE("an empty tree gives no signal at all, and one core") {
  FakeTree tree;
  const HostCounters c = HostReader(tree.root.string()).read();
  CHECK_FALSE(c.machine_all_ticks);
  CHECK_FALSE(c.group_cpu_usec);
  CHECK_FALSE(c.group_working_set_bytes);
  CHECK_FALSE(c.cpu_stall_usec);
  CHECK(c.group_cores == 1);
  HostStats stats;
  stats.update(c, kStart);
  const HostLoad load = stats.update(c, kStart + seconds(1));
  CHECK_FALSE(load.cpu());
  CHECK_FALSE(load.memory());
  CHECK_FALSE(load.io_pressure);
}

TEST_CASE("version 2: quotas and bounds of the groups above count") {
  Version2 tree;
  const HostCounters c = tree.read();
  CHECK(c.online_cpus == 8);
  CHECK(c.group_cores == 1.5);
  CHECK(c.group_cpu_usec == 1'000'000);
  CHECK(c.group_periods == 100);
  CHECK(c.group_throttled_periods == 10);
  CHECK(c.group_working_set_bytes == 500'000);
  CHECK(c.group_limit_bytes == 1'000'000);
  CHECK(c.group_oom_kills == 2);
  CHECK(c.machine_all_ticks == 1000);
  CHECK(c.machine_busy_ticks == 150);
  CHECK(c.memory_available_bytes == 2000 * 1024);
}

TEST_CASE(
    "version 2: 150000/100000 on four CPUs is 1.5 cores, no quota is all of the cpuset, `high` bounds "
    "memory") {
  Version2 tree;
  tree.write("sys/devices/system/cpu/online", "0-3\n");
  CHECK(tree.read().group_cores == 1.5);
  tree.remove("sys/fs/cgroup/app.slice/cpu.max");
  CHECK(tree.read().group_cores == 4);
  tree.write(Version2::own("cpuset.cpus.effective"), "0,2-3\n");
  CHECK(tree.read().group_cores == 3);
  tree.write(Version2::own("cpuset.cpus.effective"), "garbage\n");
  CHECK(tree.read().group_cores == 4);
  tree.write(Version2::own("memory.high"), "800000\n");
  CHECK(tree.read().group_limit_bytes == 800'000);
}

TEST_CASE("version 1 and hybrid: each controller has a tree of its own") {
  FakeTree tree;
  tree.write("sys/devices/system/cpu/online", "0-3\n");
  tree.write("proc/self/cgroup", "4:memory:/jobs/a\n3:cpuset:/\n2:cpu,cpuacct:/jobs/a\n0::/\n");
  tree.write("proc/self/mountinfo",
             "1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
             "2 0 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
             "3 0 0:3 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
             "4 0 0:4 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  const std::string cpu = "sys/fs/cgroup/cpu,cpuacct/jobs/a/";
  tree.write(cpu + "cpuacct.usage", "5000000000\n");
  tree.write(cpu + "cpu.cfs_quota_us", "-1\n");
  tree.write(cpu + "cpu.cfs_period_us", "100000\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "200000\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000\n");
  tree.write(cpu + "cpu.stat", "nr_periods 7\nnr_throttled 1\nthrottled_time 9\n");
  tree.write("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "0-3\n");
  const std::string memory = "sys/fs/cgroup/memory/jobs/a/";
  tree.write(memory + "memory.usage_in_bytes", "900\n");
  tree.write(memory + "memory.stat", "inactive_file 1\ntotal_inactive_file 300\n");
  tree.write(memory + "memory.limit_in_bytes", "9223372036854771712\n");
  tree.write(memory + "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n");
  HostCounters c = HostReader(tree.root.string()).read();
  CHECK(c.group_cpu_usec == 5'000'000);
  CHECK(c.group_cores == 2);
  CHECK(c.group_periods == 7);
  CHECK(c.group_working_set_bytes == 600);
  CHECK_FALSE(c.group_limit_bytes);
  CHECK(c.group_oom_kills == 4);
  tree.write("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "1200\n");
  c = HostReader(tree.root.string()).read();
  CHECK(c.group_limit_bytes == 1200);
}

TEST_CASE("what another process may use: the bounds of its own groups") {
  Version2 tree;
  const HostReader reader(tree.root.string());
  CHECK_FALSE(reader.memory_limit_of(77));
  tree.write("proc/77/cgroup", "0::/app.slice/worker.service\n");
  CHECK(reader.memory_limit_of(77) == 1'000'000);  // of the slice above
  tree.write("sys/fs/cgroup/app.slice/worker.service/memory.max", "400000\n");
  CHECK(reader.memory_limit_of(77) == 400'000);
  tree.write("proc/78/cgroup", "0::/elsewhere\n");
  CHECK_FALSE(reader.memory_limit_of(78));
  CHECK(tree.read().group_limit_bytes == 1'000'000);  // ours is another one
}

TEST_CASE("a container's group is found through the root of its mount") {
  FakeTree tree;
  tree.write("proc/self/mountinfo", "5 1 0:9 /docker/ab\\040c /sys/fs/cgroup rw - cgroup2 cgroup rw\n");
  tree.write("sys/fs/cgroup/memory.current", "10\n");
  tree.write("sys/fs/cgroup/inner/memory.current", "20\n");
  const auto used = [&](const char* path) {
    tree.write("proc/self/cgroup", std::string("0::") + path + "\n");
    return HostReader(tree.root.string()).read().group_working_set_bytes;
  };
  CHECK(used("/docker/ab c") == 10);
  CHECK(used("/docker/ab c/inner") == 20);
  CHECK(used("/") == 10);
  CHECK(used("/docker/ab cd") == 10);     // a neighbour with a longer name: not below our root
  CHECK(used("/../../elsewhere") == 10);  // outside of our namespace
}

TEST_CASE("rates are differences; the tighter of machine and group counts") {
  HostStats stats;
  HostCounters c;
  c.machine_all_ticks = 1000;
  c.machine_busy_ticks = 100;
  c.group_cpu_usec = 0;
  c.group_cores = 1.5;
  c.group_periods = 100;
  c.group_throttled_periods = 50;
  c.group_working_set_bytes = 850;
  c.group_limit_bytes = 1000;
  c.memory_total_bytes = 8000;
  c.memory_available_bytes = 2000;
  c.cpu_stall_usec = 7;
  c.group_oom_kills = 1;
  const HostLoad first = stats.update(c, kStart);
  CHECK_FALSE(first.cpu());
  CHECK(*first.memory() == doctest::Approx(.85));
  CHECK(*first.machine_memory == doctest::Approx(.75));

  c.machine_all_ticks = 1200;
  c.machine_busy_ticks = 200;
  c.group_cpu_usec = 1'200'000;
  c.group_periods = 110;
  c.group_throttled_periods = 53;
  c.cpu_stall_usec = 400'007;
  c.group_oom_kills = 2;
  const HostLoad load = stats.update(c, kStart + seconds(1));
  CHECK(*load.machine_cpu == doctest::Approx(.5));
  CHECK(*load.group_cpu == doctest::Approx(.8));
  CHECK(*load.cpu() == doctest::Approx(.8));
  CHECK(*load.group_throttle == doctest::Approx(.3));
  CHECK(*load.cpu_pressure == doctest::Approx(.4));
  CHECK_FALSE(load.memory_pressure);
  CHECK(load.new_oom_kills == 1);
}

TEST_CASE("a counter that went back skips its sample and nothing else; then it goes on") {
  HostStats stats;
  HostCounters c;
  c.group_cpu_usec = 1'000'000;
  c.cpu_stall_usec = 0;
  stats.update(c, kStart);
  c.group_cpu_usec = 10;
  c.cpu_stall_usec = 100'000;
  HostLoad load = stats.update(c, kStart + seconds(1));
  CHECK_FALSE(load.group_cpu);
  CHECK(*load.cpu_pressure == doctest::Approx(.1));
  c.group_cpu_usec = 500'010;
  load = stats.update(c, kStart + seconds(2));
  CHECK(*load.group_cpu == doctest::Approx(.5));
  c.group_cpu_usec.reset();  // the file is gone
  CHECK_FALSE(stats.update(c, kStart + seconds(3)).group_cpu);
}

TEST_CASE("looks that are too close together are not divided by") {
  HostStats stats;
  HostCounters c;
  c.group_cpu_usec = 0;
  stats.update(c, kStart);
  c.group_cpu_usec = 50'000;
  CHECK_FALSE(stats.update(c, kStart + milliseconds(50)).group_cpu);
  CHECK_FALSE(stats.update(c, kStart).group_cpu);
  c.group_cpu_usec = 100'000;
  CHECK(*stats.update(c, kStart + milliseconds(200)).group_cpu == doctest::Approx(.5));
}

TEST_CASE("pressure: the group's own where there is one, else the machine's") {
  Version2 tree;
  CHECK_FALSE(tree.read().cpu_stall_usec);
  const std::string line = "some avg10=0.00 avg60=0.00 avg300=0.00 total=";
  tree.write("proc/pressure/cpu", line + "11\n");
  tree.write("proc/pressure/memory", line + "12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=13\n");
  tree.write("proc/pressure/io", "nonsense\n");
  HostCounters c = tree.read();
  CHECK(c.cpu_stall_usec == 11);
  CHECK(c.memory_stall_usec == 12);
  CHECK(c.memory_full_stall_usec == 13);
  CHECK_FALSE(c.io_stall_usec);
  tree.write(Version2::own("cpu.pressure"), line + "99\n");
  CHECK(tree.read().cpu_stall_usec == 99);
}

TEST_CASE("this machine itself") {
  const HostCounters c = HostReader("/").read();
  CHECK(c.machine_all_ticks);
  CHECK(c.memory_total_bytes);
  CHECK(c.group_cores > 0);
  CHECK(c.group_cores <= c.online_cpus);
}

TEST_CASE("kills for memory are counted in a group's file, which may outlive the process") {
  Version2 tree;
  const HostReader reader(tree.root.string());
  CHECK(HostReader::kills_in(reader.kills_file_of(0)) == 2);
  CHECK_FALSE(HostReader::kills_in(reader.kills_file_of(77)));
  tree.write("proc/77/cgroup", "0::/app.slice/worker.service\n");
  tree.write("sys/fs/cgroup/app.slice/worker.service/memory.events", "low 0\noom 1\noom_kill 1\n");
  const std::string file = reader.kills_file_of(77);
  CHECK(file != reader.kills_file_of(0));
  CHECK(HostReader::kills_in(file) == 1);
  std::filesystem::remove_all(tree.root / "proc/77");
  tree.write("sys/fs/cgroup/app.slice/worker.service/memory.events", "low 0\noom 2\noom_kill 2\n");
  CHECK(HostReader::kills_in(file) == 2);
  CHECK_FALSE(HostReader::kills_in(""));
}

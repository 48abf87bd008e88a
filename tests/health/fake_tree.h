// A folder that stands for "/" in tests of readers of /proc and /sys.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

struct FakeTree {
  std::filesystem::path root;

  FakeTree() {
    std::string name = (std::filesystem::temp_directory_path() / "perigee-tree-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    root = name;
  }
  ~FakeTree() { std::filesystem::remove_all(root); }
  FakeTree(const FakeTree&) = delete;
  FakeTree& operator=(const FakeTree&) = delete;

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }
  void link(const std::string& path, const std::string& target) const {
    std::filesystem::create_directories((root / path).parent_path());
    std::filesystem::create_symlink(target, root / path);
  }
  void remove(const std::string& path) const { std::filesystem::remove_all(root / path); }
};

#include "text_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <system_error>

namespace mlmod {

namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File open_file(const std::string& path, std::size_t& size) {
  struct stat information{};
  if (stat(path.c_str(), &information) != 0)
    throw std::runtime_error("cannot open '" + path + "': " + std::strerror(errno));
  if (!S_ISREG(information.st_mode))
    throw std::runtime_error("cannot open '" + path + "': it is not a regular file");
  File file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) throw std::runtime_error("cannot open '" + path + "': " + std::strerror(errno));
  size = static_cast<std::size_t>(information.st_size);
  if (size == 0) throw std::runtime_error("'" + path + "' is empty");
  return file;
}

}  // namespace

std::string read_file(const std::string& path, std::size_t limit) {
  std::size_t size = 0;
  const File file = open_file(path, size);
  if (size > limit)
    throw std::runtime_error("'" + path + "' is too large: " + std::to_string(size) +
                             " bytes, at most " + std::to_string(limit) + " are read");
  std::string content(size, '\0');
  if (std::fread(content.data(), 1, size, file.get()) != size)
    throw std::runtime_error("cannot read '" + path + "' to its end");
  return content;
}

void write_file(const std::string& path, const std::string& content) {
  const std::string beside = path + ".part";
  const auto refuse = [&] {
    const std::string reason = std::strerror(errno);
    std::remove(beside.c_str());
    throw std::runtime_error("cannot write '" + path + "': " + reason);
  };
  std::FILE* file = std::fopen(beside.c_str(), "wb");
  if (!file) refuse();
  const bool written = std::fwrite(content.data(), 1, content.size(), file) == content.size();
  const bool closed = std::fclose(file) == 0;
  if (!written || !closed || std::rename(beside.c_str(), path.c_str()) != 0) refuse();
}

void make_folder(const std::string& path) {
  std::error_code problem;
  std::filesystem::create_directories(path, problem);
  if (problem)
    throw std::runtime_error("cannot make the folder '" + path + "': " + problem.message());
}

void check_readable(const std::string& path) {
  std::size_t size = 0;
  open_file(path, size);
}

}  // namespace mlmod

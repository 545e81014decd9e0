#include "frame_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace mlmod {

namespace {

/// Reads the frames of a file one by one.
class Frames {
 public:
  explicit Frames(const std::string& path) : stream_(path, std::ios::binary) {}

  /// Steps over one frame. False: the file ends before it does.
  /// Throws std::runtime_error when there is something other than a frame.
  bool step() {
    std::string line;
    if (!whole_line(line)) return false;
    std::int64_t count = -1;
    const char* end = line.data() + line.size();
    const auto [stop, error] = std::from_chars(line.data(), end, count);
    if (error != std::errc() || stop != end || count < 0)
      throw std::runtime_error("line " + std::to_string(number_) +
                               " should be the number of atoms of a frame, found '" +
                               line.substr(0, 40) + "'");
    for (std::int64_t i = 0; i <= count; ++i)
      if (!whole_line(line)) return false;
    return true;
  }

  std::int64_t read() const { return read_; }

 private:
  bool whole_line(std::string& line) {
    if (!std::getline(stream_, line) || stream_.eof()) return false;
    ++number_;
    read_ += static_cast<std::int64_t>(line.size()) + 1;
    return true;
  }

  std::ifstream stream_;
  std::int64_t number_ = 0, read_ = 0;
};

}  // namespace

FrameFile::FrameFile(std::string path, bool append) : path_(std::move(path)) {
  try {
    open(append);
  } catch (...) {
    if (descriptor_ >= 0) close(descriptor_);
    throw;
  }
}

FrameFile::~FrameFile() { close(descriptor_); }

void FrameFile::open(bool append) {
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail(std::string("cannot be opened: ") + std::strerror(errno));
  lock();
  refuse_other_files(append);
  if (size() > 0) remove_cut_frame();
}

// Some file systems have no locks; the file is used there all the same.
void FrameFile::lock() const {
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    fail("is being written by another fix or another run");
}

void FrameFile::refuse_other_files(bool append) {
  struct stat information{};
  if (fstat(descriptor_, &information) != 0) fail(std::strerror(errno));
  if (!S_ISREG(information.st_mode)) fail("is not a regular file");
  if (information.st_size > 0 && !append)
    fail("is there already; append yes adds frames to it, else remove it or take another name");
}

void FrameFile::remove_cut_frame() {
  Frames frames(path_);
  std::int64_t whole = 0;
  try {
    while (frames.step()) whole = frames.read();
  } catch (const std::runtime_error& error) {
    fail(std::string("is not an extxyz file, so nothing is appended: ") + error.what());
  }
  removed_ = size() - whole;
  if (removed_ > 0 && ftruncate(descriptor_, whole) != 0) fail(std::strerror(errno));
}

std::int64_t FrameFile::size() const {
  struct stat information{};
  if (fstat(descriptor_, &information) != 0) fail(std::strerror(errno));
  return information.st_size;
}

void FrameFile::add(const std::string& frame) {
  const std::int64_t before = size();
  std::size_t done = 0;
  while (done < frame.size()) {
    const ssize_t count = write(descriptor_, frame.data() + done, frame.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const std::string reason = std::strerror(errno);
      const bool undone = ftruncate(descriptor_, before) == 0;
      fail("cannot be written: " + reason + (undone ? "" : "; its last frame is cut"));
    }
    done += static_cast<std::size_t>(count);
  }
}

void FrameFile::fail(const std::string& what) const {
  throw std::runtime_error("'" + path_ + "' " + what);
}

}  // namespace mlmod

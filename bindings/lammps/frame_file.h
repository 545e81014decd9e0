#pragma once

#include <cstdint>
#include <string>

namespace mlmod {

/// An extxyz file that grows by whole frames: what a killed run leaves can be read.
///
/// The file is locked against a second writer while this object lives.
/// Everything throws std::runtime_error naming the file.
class FrameFile {
 public:
  /// Creates the file; one that is there already and not empty must be asked for with `append`.
  /// A last frame that was cut when a run was killed is then removed.
  FrameFile(std::string path, bool append);
  ~FrameFile();
  FrameFile(const FrameFile&) = delete;
  FrameFile& operator=(const FrameFile&) = delete;

  /// Bytes of the cut frame that was removed; 0: there was none.
  std::int64_t removed() const { return removed_; }

  /// Adds a frame as a whole or, when that fails, nothing of it.
  void add(const std::string& frame);

 private:
  void open(bool append);
  void lock() const;
  void refuse_other_files(bool append);
  void remove_cut_frame();
  std::int64_t size() const;
  [[noreturn]] void fail(const std::string& what) const;

  std::string path_;
  int descriptor_ = -1;
  std::int64_t removed_ = 0;
};

}  // namespace mlmod

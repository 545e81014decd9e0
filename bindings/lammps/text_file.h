#pragma once

#include <cstddef>
#include <string>

namespace mlmod {

/// Whole content of a regular file.
/// Throws std::runtime_error naming the file: absent, a folder, unreadable, or larger than `limit`.
std::string read_file(const std::string& path, std::size_t limit);

/// Throws like read_file unless `path` is a regular file that can be read and is not empty.
void check_readable(const std::string& path);

/// Writes beside `path` and renames: the file is whole or not there.
/// Throws std::runtime_error naming the file.
void write_file(const std::string& path, const std::string& content);

/// Makes a folder and those it is in. Throws std::runtime_error naming it.
void make_folder(const std::string& path);

}  // namespace mlmod

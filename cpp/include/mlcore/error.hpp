#pragma once

#include <cmath>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

/// Marks what libmlcore exports.
#define MLCORE_API __attribute__((visibility("default")))

namespace mlcore {

/// Base of every exception the library throws.
class MLCORE_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument has a wrong value, shape or device; the message names it.
class MLCORE_API InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// The operation exists, but not in this build or on this machine.
class MLCORE_API BackendUnavailable : public Error {
 public:
  using Error::Error;
};

/// A mobility matrix has no real square root.
class MLCORE_API NotPositiveDefinite : public Error {
 public:
  /// @param smallest_eigenvalue  smallest eigenvalue of the matrix (nan: unknown)
  /// @param first,second         closest pair of particles (-1: positions unknown)
  NotPositiveDefinite(const std::string& message, double smallest_eigenvalue,
                      std::int64_t first = -1, std::int64_t second = -1)
      : Error(message), smallest_eigenvalue(smallest_eigenvalue), first(first), second(second) {}

  double smallest_eigenvalue;
  std::int64_t first;
  std::int64_t second;
};

namespace detail {
template <class E, class... Parts>
[[noreturn]] void raise(const Parts&... parts) {
  std::ostringstream message;
  message.precision(10);
  (message << ... << parts);
  throw E(message.str());
}
}  // namespace detail

}  // namespace mlcore

/// Throws InvalidArgument with the streamed message parts unless the condition holds.
#define MLCORE_CHECK(condition, ...)                                               \
  do {                                                                             \
    if (!(condition)) mlcore::detail::raise<mlcore::InvalidArgument>(__VA_ARGS__); \
  } while (false)

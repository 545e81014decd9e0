#include "mlcore/machine.hpp"

#include <gtest/gtest.h>

#include "mlcore/error.hpp"

namespace {

// No core does so much per second: a loop the compiler removed would.
void expect_possible(double rate) {
  EXPECT_GT(rate, 1e6);
  EXPECT_LT(rate, 2e12);
}

TEST(Machine, RatesAreThoseOfRealWork) {
  for (int threads : {1, 2}) {
    const mlcore::Context context{threads};
    for (bool single_precision : {false, true}) {
      expect_possible(mlcore::fma_rate(context, single_precision));
    }
    for (mlcore::MemoryUse use :
         {mlcore::MemoryUse::copy, mlcore::MemoryUse::read, mlcore::MemoryUse::write}) {
      expect_possible(mlcore::stream_rate(context, use, 1 << 18));
    }
    expect_possible(mlcore::gather_rate(context, 1 << 20));
    for (bool huge : {false, true}) {
      expect_possible(mlcore::first_touch_rate(context, 1 << 22, huge));
    }
  }
}

TEST(Machine, OddSizesWork) {
  expect_possible(mlcore::stream_rate({3}, mlcore::MemoryUse::copy, 3 * 4096 + 17));
  expect_possible(mlcore::first_touch_rate({7}, 4099, false));
}

TEST(Machine, TooSmallIsAnError) {
  EXPECT_THROW(mlcore::stream_rate({2}, mlcore::MemoryUse::copy, 8191), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::gather_rate({}, 4095), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::gather_rate({}, std::int64_t{1} << 40), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::first_touch_rate({}, -1, true), mlcore::InvalidArgument);
}

}  // namespace

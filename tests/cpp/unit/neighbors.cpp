#include "mlcore/neighbors.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "mlcore/reference/neighbors.hpp"

namespace {

using mlcore::Cell;
using mlcore::Context;
using mlcore::NeighborCutoff;
using mlcore::NeighborOptions;
using Positions = std::vector<double>;

mlcore::View<const double, 2> view(const Positions& x) {
  return {x.data(), {static_cast<std::int64_t>(x.size() / 3), 3}};
}

Positions random_positions(int n, const Cell& cell, unsigned seed, double low = 0,
                           double high = 1) {
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> fraction(low, high);
  Positions x(3 * n);
  for (int i = 0; i < n; ++i) {
    for (int axis = 0; axis < 3; ++axis) {
      const double f = fraction(generator);
      for (int k = 0; k < 3; ++k) x[3 * i + k] += f * cell.rows[3 * axis + k];
    }
  }
  return x;
}

struct Pairs {
  std::vector<std::int64_t> i, j;
  std::vector<std::int32_t> S;
  std::vector<double> D, d;
  bool operator==(const Pairs&) const = default;
};

template <class Source>
Pairs filled(const Source& source, int threads) {
  const std::int64_t count = source.count();
  Pairs p;
  p.i.resize(count), p.j.resize(count), p.S.resize(3 * count), p.D.resize(3 * count);
  p.d.resize(count);
  source.fill(Context{threads}, mlcore::NeighborArrays<std::int64_t>{{p.i.data(), {count}},
                                                                     {p.j.data(), {count}},
                                                                     {p.S.data(), {count, 3}},
                                                                     {p.D.data(), {count, 3}},
                                                                     {p.d.data(), {count}}});
  return p;
}

Pairs found(const Positions& x, const Cell& cell, const NeighborCutoff& cutoff,
            const NeighborOptions& options = {}, int threads = 1) {
  return filled(mlcore::NeighborSearch(Context{threads}, view(x), cell, cutoff, options), threads);
}

Pairs expected(const Positions& x, const Cell& cell, const NeighborCutoff& cutoff,
               const NeighborOptions& options = {}) {
  Pairs p;
  for (const auto& pair : mlcore::reference::neighbor_pairs(view(x), cell, cutoff, options)) {
    p.i.push_back(pair.i), p.j.push_back(pair.j), p.d.push_back(pair.d);
    p.S.insert(p.S.end(), pair.S.begin(), pair.S.end());
    p.D.insert(p.D.end(), pair.D.begin(), pair.D.end());
  }
  return p;
}

const std::array<double, 9> kCells[] = {
    {5, 0, 0, 0, 6, 0, 0, 0, 7},           // orthogonal
    {5, 0, 0, 2, 6, 0, -3, 2, 7},          // triclinic
    {0, 6, 0.5, 5, 0.3, 0, 0.2, 0, 7},     // left-handed
    {5, 0.1, 0.2, 14, 6, 0.3, -9, 11, 7},  // strongly skewed
};

TEST(Neighbors, MatchesReferenceForEveryCellAndBoundary) {
  for (const auto& rows : kCells) {
    for (int mask = 0; mask < 8; ++mask) {
      const Cell cell{rows, {bool(mask & 1), bool(mask & 2), bool(mask & 4)}};
      for (double cutoff : {0.4, 1.7, 3.4, 8.1}) {
        const Positions x = random_positions(cutoff > 5 ? 9 : 60, cell, mask + 17, -1.5, 2.5);
        for (bool half : {false, true}) {
          const NeighborOptions options{half, true, half};
          const Pairs reference = expected(x, cell, {cutoff}, options);
          for (int threads : {1, 2, 7}) {
            ASSERT_EQ(found(x, cell, {cutoff}, options, threads), reference)
                << mask << " " << cutoff << " " << half << " " << threads;
          }
        }
      }
    }
  }
}

// On a lattice many distances equal the cutoff up to rounding.
TEST(Neighbors, DecidesExactlyAtTheCutoff) {
  const double a = 1.1;
  for (double origin : {0.0, -3.3, 1e6 + 0.1}) {
    const Cell cell{{6 * a, 0, 0, 0, 6 * a, 0, 0, 0, 6 * a}, {true, true, false}};
    Positions x;
    for (int i = 0; i < 216; ++i) {
      for (int k : {i / 36, i / 6 % 6, i % 6}) x.push_back(origin + k * a);
    }
    for (double cutoff : {a, 2 * a, a * std::sqrt(2.0), a * std::sqrt(3.0)}) {
      EXPECT_EQ(found(x, cell, {cutoff}), expected(x, cell, {cutoff})) << origin << " " << cutoff;
    }
  }
}

TEST(Neighbors, CutoffIsStrict) {
  const Positions x = {0, 0, 0, 3, 4, 0};
  EXPECT_EQ(found(x, Cell::open(), {5.0}).i.size(), 0u);
  EXPECT_EQ(found(x, Cell::open(), {std::nextafter(5.0, 6.0)}).i.size(), 2u);
}

TEST(Neighbors, SizesAroundTheVectorWidth) {
  for (int n : {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 300}) {
    const Cell cell{kCells[1], {true, true, true}};
    const Positions x = random_positions(n, cell, n);
    EXPECT_EQ(found(x, cell, {2.2}), expected(x, cell, {2.2})) << n;
  }
}

TEST(Neighbors, CoincidentAndDistantParticles) {
  const Positions same = {1, 2, 3, 1, 2, 3, 1, 2, 3};
  EXPECT_EQ(found(same, Cell::open(), {1e-3}).i.size(), 6u);
  const Positions apart = {0, 0, 0, 1e90, 0, 0, 0.5, 0, 0, -1e40, 1e40, 3};
  EXPECT_EQ(found(apart, Cell::open(), {1.0}), expected(apart, Cell::open(), {1.0}));
  EXPECT_EQ(found(apart, Cell::open(), {1e-300}).i.size(), 0u);
  const Positions outside = {1e8 + 0.25, 0, 0, 0.5, 0, 0, -3e8, 0.1, 0};
  const Cell box = Cell::cubic(4);
  EXPECT_EQ(found(outside, box, {1.0}), expected(outside, box, {1.0}));
}

TEST(Neighbors, UnsortedHoldsTheSamePairsInTheSameOrderForAnyThreadCount) {
  const Cell cell{kCells[1], {true, false, true}};
  const Positions x = random_positions(400, cell, 3);
  NeighborOptions options;
  options.sorted = false;
  const Pairs one = found(x, cell, {1.5}, options, 1);
  EXPECT_EQ(found(x, cell, {1.5}, options, 5), one);
  EXPECT_TRUE(std::is_sorted(one.i.begin(), one.i.end()));
  const Pairs sorted = found(x, cell, {1.5});
  EXPECT_EQ(one.i, sorted.i);
  EXPECT_NE(one.j, sorted.j);
  std::vector<std::pair<std::int64_t, double>> a, b;
  for (std::size_t k = 0; k < one.i.size(); ++k) {
    a.emplace_back(one.j[k], one.d[k]);
    b.emplace_back(sorted.j[k], sorted.d[k]);
  }
  std::sort(a.begin(), a.end());
  std::sort(b.begin(), b.end());
  EXPECT_EQ(a, b);
}

std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>> indices(
    const mlcore::NeighborSearch& search) {
  const std::int64_t count = search.count();
  std::vector<std::int64_t> i(count), j(count);
  search.fill({}, mlcore::NeighborArrays<std::int64_t>{
                      {i.data(), {count}}, {j.data(), {count}}, {}, {}, {}});
  return {i, j};
}

TEST(Neighbors, SearchWithoutVectorsFindsTheSamePairs) {
  for (double cutoff : {1.5, 3.4, 40.0}) {  // images in a byte, and more than that
    const Cell cell{kCells[1], {true, true, true}};
    const Positions x = random_positions(cutoff > 5 ? 2 : 300, cell, 4);
    for (bool half : {false, true}) {
      NeighborOptions options{half};
      const Pairs all = found(x, cell, {cutoff}, options);
      options.vectors = false;
      const mlcore::NeighborSearch search(Context{2}, view(x), cell, {cutoff}, options);
      const auto [i, j] = indices(search);
      EXPECT_EQ(i, all.i);
      EXPECT_EQ(j, all.j);
      EXPECT_THROW(filled(search, 1), mlcore::InvalidArgument);
    }
  }
}

// A clump among so many particles that their numbers are sorted by three digits.
TEST(Neighbors, SortsLargeNumbers) {
  const int n = (1 << 20) + 5;
  Positions x = random_positions(n, Cell::cubic(1000), 9);
  for (int i = 0; i < n; i += 2000) {
    for (int k = 0; k < 3; ++k) x[3 * i + k] *= 3e-3;
  }
  NeighborOptions options;
  options.vectors = false;
  const auto sorted =
      indices(mlcore::NeighborSearch({}, view(x), Cell::cubic(1000), {1.0}, options));
  options.sorted = false;
  auto other = indices(mlcore::NeighborSearch({}, view(x), Cell::cubic(1000), {1.0}, options));
  EXPECT_EQ(sorted.first, other.first);
  for (auto begin = other.second.begin(); begin != other.second.end();) {
    const auto at = other.first.begin() + (begin - other.second.begin());
    const auto end = begin + (std::upper_bound(at, other.first.end(), *at) - at);
    std::sort(begin, end);
    begin = end;
  }
  EXPECT_EQ(sorted.second, other.second);
}

TEST(Neighbors, RowsLongerThanTheSortingKernel) {
  const Cell cell = Cell::cubic(3);
  const Positions x = random_positions(90, cell, 1);
  EXPECT_EQ(found(x, cell, {2.9}), expected(x, cell, {2.9}));
}

TEST(Neighbors, RadiiAndTypes) {
  const double infinity = std::numeric_limits<double>::infinity();
  const Cell cell{kCells[2], {true, true, false}};
  const Positions x = random_positions(80, cell, 5);
  std::vector<double> radii(80);
  std::vector<std::int32_t> types(80);
  for (int i = 0; i < 80; ++i) radii[i] = 0.1 * (i % 13), types[i] = i % 3;
  const std::vector<double> table = {1.0, 0.5, 0, 0.5, 2.0, 1.7, 0, 1.7, 0.9};
  NeighborCutoff cutoff{infinity};
  cutoff.radii = {radii.data(), {80}};
  EXPECT_EQ(found(x, cell, cutoff), expected(x, cell, {2.4, cutoff.radii, {}, {}}));
  NeighborCutoff by_type{infinity};
  by_type.types = {types.data(), {80}};
  by_type.table = {table.data(), {3, 3}};
  EXPECT_EQ(found(x, cell, by_type, {true}),
            expected(x, cell, {2.0, {}, by_type.types, by_type.table}, {true}));
}

TEST(Neighbors, OffsetsCountTheRows) {
  const Cell cell = Cell::cubic(5);
  const Positions x = random_positions(50, cell, 2);
  const mlcore::NeighborSearch search({}, view(x), cell, {1.5});
  const Pairs pairs = filled(search, 1);
  const auto offsets = search.offsets();
  ASSERT_EQ(offsets.shape[0], 51);
  EXPECT_EQ(offsets(50), search.count());
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(offsets(i + 1) - offsets(i), std::count(pairs.i.begin(), pairs.i.end(), i));
  }
}

// Small cells see hundreds of images, which are written down in another way.
TEST(Neighbors, ManyImages) {
  for (const auto& rows : kCells) {
    Cell cell{rows, {true, true, true}};
    for (double& value : cell.rows) value *= 0.2;
    const Positions x = random_positions(2, cell, 4, -2, 3);
    for (bool half : {false, true}) {
      EXPECT_EQ(found(x, cell, {6.0}, {half, true, true}),
                expected(x, cell, {6.0}, {half, true, true}));
    }
  }
}

TEST(Neighbors, ClustersAndVoids) {
  std::mt19937_64 generator(3);
  std::normal_distribution<double> normal(0, 0.3);
  Positions x;
  for (double centre : {0.0, 1.0, 40.0, 900.0}) {
    for (int k = 0; k < 3 * 60; ++k) x.push_back(centre + normal(generator));
  }
  const Cell slab{{60, 0, 0, 0, 60, 0, 0, 0, 0}, {true, true, false}};
  for (const Cell& cell : {Cell::open(), slab}) {
    for (int threads : {1, 2, 7}) {
      EXPECT_EQ(found(x, cell, {0.8}, {}, threads), expected(x, cell, {0.8}));
    }
  }
}

TEST(Neighbors, SinglePrecisionIsDoubleRounded) {
  const Cell cell{kCells[3], {true, true, false}};
  const Positions x = random_positions(90, cell, 6, -1, 2);
  const mlcore::NeighborSearch search({}, view(x), cell, {2.0});
  const Pairs pairs = filled(search, 1);
  const std::int64_t count = search.count();
  std::vector<std::int32_t> i(count), j(count), S(3 * count);
  std::vector<float> D(3 * count), d(count);
  search.fill({}, mlcore::NeighborArrays<std::int32_t, float>{{i.data(), {count}},
                                                              {j.data(), {count}},
                                                              {S.data(), {count, 3}},
                                                              {D.data(), {count, 3}},
                                                              {d.data(), {count}}});
  EXPECT_TRUE(std::equal(i.begin(), i.end(), pairs.i.begin()));
  EXPECT_TRUE(std::equal(j.begin(), j.end(), pairs.j.begin()));
  EXPECT_EQ(S, pairs.S);
  EXPECT_EQ(D, std::vector<float>(pairs.D.begin(), pairs.D.end()));
  EXPECT_EQ(d, std::vector<float>(pairs.d.begin(), pairs.d.end()));
}

TEST(Neighbors, MatrixHoldsTheRows) {
  const Cell cell{kCells[1], {true, true, true}};
  const Positions x = random_positions(50, cell, 9);
  const mlcore::NeighborSearch search({}, view(x), cell, {2.4});
  const Pairs pairs = filled(search, 1);
  const std::int64_t width = search.largest_row() + 2;
  std::vector<std::int32_t> j(50 * width), S(150 * width);
  std::vector<std::int64_t> counts(50);
  const mlcore::NeighborMatrix matrix{
      {j.data(), {50, width}}, {S.data(), {50, width, 3}}, {counts.data(), {50}}, -7};
  search.fill({}, matrix);
  std::int64_t pair = 0;
  for (int i = 0; i < 50; ++i) {
    for (int k = 0; k < width; ++k) {
      const bool there = k < counts[i];
      EXPECT_EQ(matrix.j(i, k), there ? pairs.j[pair] : -7);
      for (int axis = 0; axis < 3; ++axis) {
        EXPECT_EQ(matrix.S(i, k, axis), there ? pairs.S[3 * pair + axis] : 0);
      }
      pair += there;
    }
  }
  EXPECT_EQ(pair, search.count());
  const mlcore::NeighborMatrix narrow{{j.data(), {50, width - 3}}, {}, {}, 0};
  EXPECT_THROW(search.fill({}, narrow), mlcore::InvalidArgument);
}

TEST(Neighbors, BatchHoldsEachSystem) {
  const std::int64_t offsets[] = {0, 30, 30, 31, 90};
  mlcore::NeighborSystems systems{{offsets, {5}}, {}};
  Positions x;
  for (int s = 0; s < 4; ++s) {
    systems.cells.push_back(Cell{kCells[s], {s != 0, true, s == 2}});
    const auto own =
        random_positions(static_cast<int>(offsets[s + 1] - offsets[s]), systems.cells.back(), s);
    x.insert(x.end(), own.begin(), own.end());
  }
  std::vector<double> radii(90);
  for (int i = 0; i < 90; ++i) radii[i] = 0.3 + 0.1 * (i % 11);
  const NeighborCutoff cutoff{3.0, {radii.data(), {90}}, {}, {}};
  Pairs all;
  for (int s = 0; s < 4; ++s) {
    const std::int64_t size = offsets[s + 1] - offsets[s];
    const Positions own(x.begin() + 3 * offsets[s], x.begin() + 3 * offsets[s + 1]);
    const Pairs part = expected(own, systems.cells[s], {3.0, {&radii[offsets[s]], {size}}, {}, {}});
    for (std::int64_t i : part.i) all.i.push_back(i + offsets[s]);
    for (std::int64_t j : part.j) all.j.push_back(j + offsets[s]);
    all.S.insert(all.S.end(), part.S.begin(), part.S.end());
    all.D.insert(all.D.end(), part.D.begin(), part.D.end());
    all.d.insert(all.d.end(), part.d.begin(), part.d.end());
  }
  for (int threads : {1, 2, 7}) {
    const mlcore::NeighborSearch search(Context{threads}, view(x), systems, cutoff);
    EXPECT_EQ(filled(search, threads), all) << threads;
  }
  const std::int64_t wrong[] = {0, 40, 30, 31, 90};
  systems.offsets.data = wrong;
  EXPECT_THROW(mlcore::NeighborSearch({}, view(x), systems, cutoff), mlcore::InvalidArgument);
}

// Larger than what is left to the caches: written in whole lines, from any place on.
TEST(Neighbors, LongListsAtAnyAlignment) {
  const Cell cell = Cell::cubic(17);
  const Positions x = random_positions(4000, cell, 12);
  const mlcore::NeighborSearch search({}, view(x), cell, {3.0});
  const std::int64_t count = search.count();
  ASSERT_GT(60 * count, 1 << 23);
  const Pairs plain = filled(search, 1);
  for (int shift : {0, 1, 5}) {
    std::vector<std::int32_t> i(count + 16, -9);
    std::vector<double> D(3 * count + 16, -9.0), d(count + 16, -9.0);
    mlcore::NeighborArrays<std::int32_t> arrays;
    arrays.i = {i.data() + shift, {count}};
    arrays.D = {D.data() + shift, {count, 3}};
    arrays.d = {d.data() + shift, {count}};
    search.fill(Context{3}, arrays);
    EXPECT_TRUE(std::equal(plain.i.begin(), plain.i.end(), i.begin() + shift));
    EXPECT_TRUE(std::equal(plain.D.begin(), plain.D.end(), D.begin() + shift));
    EXPECT_TRUE(std::equal(plain.d.begin(), plain.d.end(), d.begin() + shift));
    for (int k = 0; k < 16; ++k) {
      const bool before = k < shift;
      const std::int64_t at = before ? k : count + k;
      EXPECT_EQ(i[at], -9);
      EXPECT_EQ(d[at], -9.0);
      EXPECT_EQ(D[before ? k : 3 * count + k], -9.0);
    }
  }
}

TEST(Neighbors, RejectsBadArguments) {
  const auto rejects = [](const Positions& x, const Cell& cell, const NeighborCutoff& cutoff) {
    EXPECT_THROW(found(x, cell, cutoff), mlcore::InvalidArgument);
  };
  const Positions x = {0, 0, 0, 1, 1, 1};
  const double infinity = std::numeric_limits<double>::infinity();
  rejects({0, 0, NAN}, Cell::open(), {1.0});
  rejects({0, infinity, 0}, Cell::cubic(3), {1.0});
  rejects(x, Cell::open(), {-1.0});
  rejects(x, Cell::open(), {NAN});
  rejects(x, Cell::open(), {infinity});
  rejects(x, Cell{{}, {true, false, false}}, {1.0});
  rejects(x, Cell::cubic(1e-3), {1.0});
  rejects({1e12, 0, 0}, Cell::cubic(1), {0.5});
  const double radii[] = {1, -1};
  rejects(x, Cell::open(), {1.0, {radii, {2}}, {}, {}});
  rejects(x, Cell::open(), {1.0, {radii, {1}}, {}, {}});
  const double table[] = {1, 2, 3, 1};
  const std::int32_t types[] = {0, 1}, unknown[] = {0, 2};
  rejects(x, Cell::open(), {1.0, {}, {types, {2}}, {table, {2, 2}}});
  rejects(x, Cell::open(), {1.0, {}, {unknown, {2}}, {table, {1, 1}}});
  mlcore::View<const double, 2> wrong(x.data(), {3, 2});
  EXPECT_THROW(mlcore::NeighborSearch({}, wrong, Cell::open(), {1.0}), mlcore::InvalidArgument);
  mlcore::View<const double, 2> huge(x.data(), {std::int64_t{1} << 31, 3});
  EXPECT_THROW(mlcore::NeighborSearch({}, huge, Cell::open(), {1.0}), mlcore::InvalidArgument);
}

TEST(Neighbors, ListStaysExactAndSearchesOnlyAfterHalfASkin) {
  const Cell cell{kCells[1], {true, true, true}};
  Positions x = random_positions(120, cell, 8);
  mlcore::NeighborList list({1.6}, 0.5);
  EXPECT_TRUE(list.update({}, view(x), cell));
  EXPECT_FALSE(list.update({}, view(x), cell));
  std::mt19937_64 generator(1);
  std::uniform_real_distribution<double> step(-0.06, 0.06);
  int searches = 0;
  for (int t = 0; t < 30; ++t) {
    for (double& value : x) value += step(generator);
    searches += list.update({}, view(x), cell);
    ASSERT_EQ(filled(list, 1), expected(x, cell, {1.6})) << t;
  }
  EXPECT_GT(searches, 1);
  EXPECT_LT(searches, 15);
  x[0] += 0.26;
  EXPECT_TRUE(list.update({}, view(x), cell));
  x[0] += 0.24;
  EXPECT_FALSE(list.update({}, view(x), cell));
  Cell larger = cell;
  larger.rows[0] += 0.01;
  EXPECT_TRUE(list.update({}, view(x), larger));
  EXPECT_EQ(filled(list, 1), expected(x, larger, {1.6}));
  x.resize(30);
  EXPECT_TRUE(list.update({}, view(x), larger));
  EXPECT_EQ(filled(list, 1), expected(x, larger, {1.6}));
}

// Lists that are searched again while they are filled are those that were stored.
TEST(Neighbors, PairsNeedNotBeStored) {
  for (const auto& rows : kCells) {
    for (double scale : {1.0, 0.2}) {  // the small ones see hundreds of images
      Cell cell{rows, {true, true, scale < 1}};
      for (double& value : cell.rows) value *= scale;
      const Positions x = random_positions(scale < 1 ? 2 : 130, cell, 31, -1.5, 2.5);
      const double cutoff = scale < 1 ? 6.0 : 2.1;
      for (int mask = 0; mask < 8; ++mask) {
        NeighborOptions options{bool(mask & 1), bool(mask & 2), bool(mask & 4)};
        const mlcore::NeighborSearch stored({}, view(x), cell, {cutoff}, options);
        options.stored = false;
        for (int threads : {1, 2, 7}) {
          const mlcore::NeighborSearch again(Context{threads}, view(x), cell, {cutoff}, options);
          ASSERT_EQ(again.count(), stored.count());
          EXPECT_EQ(again.largest_row(), stored.largest_row());
          EXPECT_EQ(filled(again, threads), filled(stored, 1)) << mask << " " << threads;
        }
      }
    }
  }
  NeighborOptions options;
  options.stored = false;
  EXPECT_EQ(found({}, Cell::open(), {1.0}, options).i.size(), 0u);
  EXPECT_EQ(found({1, 2, 3}, Cell::open(), {0.0}, options).i.size(), 0u);
}

TEST(Neighbors, LongListsThatAreNotStored) {
  const Cell cell = Cell::cubic(17);
  const Positions x = random_positions(4000, cell, 12);
  const Pairs plain = found(x, cell, {3.0});
  NeighborOptions options;
  options.stored = false;
  const mlcore::NeighborSearch search(Context{2}, view(x), cell, {3.0}, options);
  const std::int64_t count = search.count();
  ASSERT_GT(60 * count, 1 << 23);
  for (int shift : {0, 1, 5}) {
    std::vector<std::int64_t> j(count + 16, -9);
    std::vector<double> D(3 * count + 16, -9.0), d(count + 16, -9.0);
    mlcore::NeighborArrays<std::int64_t> arrays;
    arrays.j = {j.data() + shift, {count}};
    arrays.D = {D.data() + shift, {count, 3}};
    arrays.d = {d.data() + shift, {count}};
    search.fill(Context{3}, arrays);
    EXPECT_TRUE(std::equal(plain.j.begin(), plain.j.end(), j.begin() + shift));
    EXPECT_TRUE(std::equal(plain.D.begin(), plain.D.end(), D.begin() + shift));
    EXPECT_TRUE(std::equal(plain.d.begin(), plain.d.end(), d.begin() + shift));
    for (int k = 0; k < 16; ++k) {
      const bool before = k < shift;
      const std::int64_t at = before ? k : count + k;
      EXPECT_EQ(j[at], -9);
      EXPECT_EQ(d[at], -9.0);
      EXPECT_EQ(D[before ? k : 3 * count + k], -9.0);
    }
  }
}

TEST(Neighbors, MatrixOfPairsThatAreNotStored) {
  const Cell cell{kCells[1], {true, true, true}};
  const Positions x = random_positions(50, cell, 9);
  for (double cutoff : {0.0, 0.5, 2.4}) {
    std::array<std::vector<std::int32_t>, 2> j, S;
    std::array<std::vector<std::int64_t>, 2> counts;
    for (bool stored : {true, false}) {
      NeighborOptions options;
      options.stored = stored;
      const mlcore::NeighborSearch search(Context{2}, view(x), cell, {cutoff}, options);
      const std::int64_t width = search.largest_row() + 3;
      j[stored].assign(50 * width, 99), S[stored].assign(150 * width, 99);
      counts[stored].assign(50, 99);
      search.fill(Context{2}, mlcore::NeighborMatrix{{j[stored].data(), {50, width}},
                                                     {S[stored].data(), {50, width, 3}},
                                                     {counts[stored].data(), {50}},
                                                     -7});
    }
    EXPECT_EQ(j[0], j[1]);
    EXPECT_EQ(S[0], S[1]);
    EXPECT_EQ(counts[0], counts[1]);
  }
}

/// Steps of a list whose particles keep their cells, and of which some leave the box.
void expect_exact_steps(const Cell& cell, int n, double cutoff, double skin,
                        NeighborOptions options, int threads) {
  Positions x = random_positions(n, cell, 21, -0.2, 1.2);
  mlcore::NeighborList list({cutoff}, skin, options);
  std::mt19937_64 generator(5);
  std::uniform_real_distribution<double> step(-0.11 * skin, 0.11 * skin);
  int searches = 0;
  for (int t = 0; t < 60; ++t) {
    for (std::size_t k = 0; k < x.size(); ++k) x[k] += step(generator) + 0.1 * skin * (k % 3 == 0);
    searches += list.update(Context{threads}, view(x), cell);
    if (options.sorted) {
      ASSERT_EQ(filled(list, threads), expected(x, cell, {cutoff}, options)) << t;
    } else {
      ASSERT_EQ(list.count(), mlcore::NeighborSearch({}, view(x), cell, {cutoff}, options).count());
    }
  }
  EXPECT_GT(searches, 5);  // several skins away from where they began
  EXPECT_LT(searches, 45);
}

TEST(Neighbors, KeptCandidatesStayExact) {
  for (int mask = 0; mask < 16; ++mask) {
    NeighborOptions options{bool(mask & 1), bool(mask & 2), bool(mask & 4)};
    options.stored = mask & 8;
    expect_exact_steps({kCells[mask % 4], {true, true, mask % 3 != 0}}, 90, 1.5, 0.6, options,
                       1 + mask % 3);
  }
}

// No byte holds the number of an image there: candidates are gathered anew at each step.
TEST(Neighbors, MovingParticlesWithManyImages) {
  for (bool half : {false, true}) {
    for (bool stored : {false, true}) {
      NeighborOptions options{half};
      options.stored = stored;
      Cell cell{kCells[1], {true, true, true}};
      for (double& value : cell.rows) value *= 0.2;
      expect_exact_steps(cell, 2, 5.0, 0.5, options, 2);
    }
  }
}

TEST(Neighbors, KeptCandidatesWithRadii) {
  const Cell cell{kCells[0], {true, true, true}};
  Positions x = random_positions(70, cell, 3);
  std::vector<double> radii(70);
  for (int i = 0; i < 70; ++i) radii[i] = 0.2 + 0.05 * (i % 9);
  const NeighborCutoff cutoff{
      std::numeric_limits<double>::infinity(), {radii.data(), {70}}, {}, {}};
  for (bool stored : {true, false}) {
    NeighborOptions options;
    options.stored = stored;
    mlcore::NeighborList list(cutoff, 0.4, options);
    for (int t = 0; t < 20; ++t) {
      for (std::size_t k = 0; k < x.size(); ++k) x[k] += 0.03 * std::sin(7.0 * k + t);
      list.update({}, view(x), cell);
      ASSERT_EQ(filled(list, 1), expected(x, cell, {1.2, cutoff.radii, {}, {}})) << t;
    }
  }
}

TEST(Neighbors, ListTellsItsPositions) {
  const Positions x = random_positions(20, Cell::cubic(4), 8, -2, 3);
  mlcore::NeighborList list({1.6}, 0.5);
  list.update({}, view(x), Cell::cubic(4));
  Positions copy(60);
  list.copy_positions({}, {copy.data(), {20, 3}});
  EXPECT_EQ(copy, x);
  EXPECT_THROW(list.copy_positions({}, {copy.data(), {19, 3}}), mlcore::InvalidArgument);
  EXPECT_THROW(list.copy_positions({}, {copy.data(), {20, 3}, mlcore::Device::cuda}),
               mlcore::InvalidArgument);
}

/// CPU memory passed for a GPU's: refused, with CUDA (where it lies) and without (no backend); the
/// list is empty then, and the next update searches.
TEST(Neighbors, ListOnAGpuThatIsNotThere) {
  const Cell cell = Cell::cubic(4);
  const Positions x = random_positions(20, cell, 8);
  const mlcore::View<const double, 2> there(x.data(), {20, 3}, mlcore::Device::cuda);
  mlcore::NeighborList list({1.6}, 0.5);
  EXPECT_TRUE(list.update({}, view(x), cell));
  EXPECT_FALSE(list.update({}, view(x), cell));
  EXPECT_THROW(list.update({}, there, cell), mlcore::Error);
  EXPECT_EQ(list.count(), 0);
  EXPECT_EQ(list.particles(), 0);
  EXPECT_TRUE(list.update({}, view(x), cell));
  EXPECT_EQ(filled(list, 1), expected(x, cell, {1.6}));
}

/// How far particles may move is decided alike on the CPU and on the GPU: pairs just beyond the
/// reach come towards each other by half the skin, less or more, near the origin and far from it.
TEST(Neighbors, ListsServeForHalfTheSkin) {
  const double cutoff = 1.1, skin = 0.3;
  std::mt19937_64 generator(3);
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (double size : {0.0, 1e3, 1e9, 1e14}) {
    for (const Cell& cell : {Cell::open(), Cell{kCells[1], {true, true, false}}}) {
      if (size > 1e9 && cell.pbc[0]) continue;  // more than 2^30 cells away
      for (double share : {0.0, 0.499999, 0.5, 0.500001}) {
        Positions x(6), y;
        double u[3], length = 0;
        for (double& value : u) value = uniform(generator);
        for (double value : u) length += value * value;
        for (int k = 0; k < 3; ++k) {
          x[k] = uniform(generator) * size;
          x[3 + k] = x[k] + (cutoff + skin) * (1 + 1e-15) * u[k] / std::sqrt(length);
        }
        y = x;
        for (int k = 0; k < 3; ++k) {
          y[k] += share * skin * u[k] / std::sqrt(length);
          y[3 + k] -= share * skin * u[k] / std::sqrt(length);
        }
        mlcore::NeighborList list({cutoff}, skin);
        list.update({}, view(x), cell);
        const bool searched = list.update({}, view(y), cell);
        if (size <= 1e3 && share != 0.5) EXPECT_EQ(searched, share > 0.5) << size;
        if (x == y) EXPECT_FALSE(searched) << size;
        EXPECT_EQ(filled(list, 1), expected(y, cell, {cutoff})) << size << " " << share;
      }
    }
  }
}

TEST(Neighbors, ListAfterAFailedUpdateIsEmpty) {
  const Cell cell = Cell::cubic(4);
  Positions x = random_positions(20, cell, 8);
  mlcore::NeighborList list({1.6}, 0.5);
  list.update({}, view(x), cell);
  x[4] = NAN;
  EXPECT_THROW(list.update({}, view(x), cell), mlcore::InvalidArgument);
  EXPECT_EQ(list.count(), 0);
  x[4] = 1;
  EXPECT_TRUE(list.update({}, view(x), cell));
  EXPECT_EQ(filled(list, 1), expected(x, cell, {1.6}));
}

}  // namespace

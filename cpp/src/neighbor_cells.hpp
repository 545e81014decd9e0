#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/neighbors.hpp"
#include "mlcore/context.hpp"
#include "mlcore/view.hpp"
#include "neighbor_grid.hpp"
#include "scratch.hpp"

namespace mlcore::detail {

/// Particles sorted into cells at least as wide as the reach of a search.
class NeighborCells {
 public:
  NeighborCells() = default;
  /// @param reach  > 0, largest distance of neighbors
  /// @throws InvalidArgument  a position is not finite or too far away, the
  /// reach too long
  NeighborCells(const Context& context, View<const double, 2> x, const Cell& cell, double reach);

  /// Takes new positions of the same particles; they stay in their cells, which
  /// remains right as long as distances change by less than the reach exceeds
  /// the cutoff.
  void move(const Context& context, View<const double, 2> x);

  void copy_positions(View<double, 2> out) const;

  std::int64_t size() const { return positions_.size() / 4; }
  kernels::NeighborParticles particles() const;
  kernels::NeighborCopies copies() const;

  /// Whether images are counted through and fit a byte.
  bool narrow() const { return !images_.empty(); }

  /// Single-precision squares that are decided, for a cutoff up to the reach:
  /// (inside, outside).
  std::array<float, 2> decided(double cutoff) const;

  std::int64_t cells() const { return start_.size() - 1; }

  /// Shifts of the images, (images, 4), in the unit of the single-precision copies; narrow() only.
  std::vector<float> image_shifts() const;

  double reach() const { return grid_.reach; }
  const NeighborGrid& grid() const { return grid_; }

  /// The cell of the particle at a place of the order.
  std::int64_t cell_of(std::int64_t place) const;
  std::int32_t begin(std::int64_t cell) const { return start_[cell]; }
  std::int32_t end(std::int64_t cell) const { return start_[cell + 1]; }

  /// Particles in reach of those of a cell, in the order of their image
  /// numbers; the segment that holds the cell itself is returned.
  std::int64_t segments_around(std::int64_t cell,
                               std::vector<kernels::NeighborSegment>& segments) const;

 private:
  struct Piece {
    std::int64_t first, last;  // bins
    std::int32_t image;
  };
  using Pieces = std::vector<Piece>;

  NeighborExtent wrap(const Context& context, View<const double, 2> x, double* fractions);
  NeighborExtent wrap_particles(const Context& context, View<const double, 2> x, double* fractions);
  void wrap_particle(const double* x, std::int64_t i, double* fraction, NeighborExtent& extent);
  void wrapped_position(const double* x, const std::int32_t* wraps, double* result) const;
  bool narrow_wraps() const;
  double row_size(int axis) const;
  void choose_scale(const NeighborExtent& extent);
  std::int64_t bin_of(const double* fraction) const;
  void sort(const Context& context, const double* fractions);
  static void pieces_around(const NeighborAxis& axis, std::int64_t bin, bool merge, Pieces& pieces);
  using Image = std::array<std::int32_t, 3>;
  void list_images();
  std::int32_t image_number(const Image& image) const;
  void shift_of(const Image& image, double* shift) const;
  kernels::NeighborSegment segment(std::int32_t begin, std::int32_t end, const Image& image) const;

  NeighborGrid grid_;
  double low_[3] = {},
         unit_ = 1;   // origin and unit of the single-precision copies
  double doubt_ = 0;  // where their rounding leaves doubt, in that unit
  std::vector<kernels::NeighborImage> images_;
  Scratch<std::int32_t> wraps_;   // (n, 4) x - wraps @ cell is inside; empty: all zero
  bool packed_ = false;           // wraps also stand in the last column of the positions
  Scratch<double> positions_;     // (n, 4)
  Scratch<std::int32_t> start_;   // first place of each cell
  Scratch<std::int32_t> number_;  // of the particle at each place
  Scratch<float> copies_[3];
};

}  // namespace mlcore::detail

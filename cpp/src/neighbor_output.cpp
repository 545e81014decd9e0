#include "neighbor_output.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>

#include "mlcore/buffer.hpp"
#include "parallel.hpp"

// Rows are written in the order of the particles, so that every array is
// written from one end to the other. Arrays larger than the caches are written
// past them, whole lines at a time. Rows that are not stored come in the order
// of the cells, and are written to where they belong.

namespace mlcore::detail {
namespace {

constexpr std::int64_t kLine = 64;
constexpr std::int64_t kStage = 4096;
constexpr std::int64_t kCached = std::int64_t{1} << 23;
constexpr std::int64_t kRowsAhead = 12;
constexpr std::int64_t kPositionsAhead = 3;

/// Writes an array from some entry on: directly, or by a stage of whole lines.
template <class T>
class RowStream {
 public:
  /// @param target  null: not wanted
  RowStream(T* target, bool staged) : next_(target), staged_(staged && target) {
    if (!staged_) return;
    filled_ = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(target) % kLine);
    line_ = reinterpret_cast<char*>(target) - filled_;
    foreign_ = filled_;
  }
  ~RowStream() {
    if (!staged_) return;
    if (filled_ >= kLine) flush();
    if (filled_ > foreign_) std::memcpy(line_ + foreign_, stage() + foreign_, filled_ - foreign_);
  }
  RowStream(const RowStream&) = delete;
  RowStream& operator=(const RowStream&) = delete;

  /// Where the next `count` entries go; null if they are not wanted.
  T* room(std::int64_t count) {
    if (!staged_) return next_;
    const std::int64_t bytes = filled_ + count * static_cast<std::int64_t>(sizeof(T)) + kLine;
    if (bytes > static_cast<std::int64_t>(memory_.size())) {
      Buffer larger(static_cast<std::size_t>(2 * bytes));
      if (memory_.data()) std::memcpy(larger.data(), stage(), filled_);
      memory_ = std::move(larger);
    }
    return reinterpret_cast<T*>(stage() + filled_);
  }

  /// They are there.
  void commit(std::int64_t count) {
    if (!next_) return;
    next_ += count;
    if (!staged_) return;
    filled_ += count * static_cast<std::int64_t>(sizeof(T));
    if (filled_ >= kStage) flush();
  }

 private:
  char* stage() const { return static_cast<char*>(memory_.data()); }

  void flush() {
    const std::int64_t lines = filled_ / kLine, done = lines * kLine;
    const std::int64_t shared = foreign_ > 0;  // the first line belongs to someone else, too
    if (shared) std::memcpy(line_ + foreign_, stage() + foreign_, kLine - foreign_);
    foreign_ = 0;
    MLCORE_DISPATCH(neighbor_stream)
    (line_ + kLine * shared, stage() + kLine * shared, lines - shared);
    std::memmove(stage(), stage() + done, filled_ - done);
    line_ += done;
    filled_ -= done;
  }

  T* next_;
  bool staged_;
  char* line_ = nullptr;  // where the stage goes
  std::int64_t filled_ = 0, foreign_ = 0;
  Buffer memory_;
};

template <class Real>
void fill_vectors(const NeighborCells& cells, const kernels::NeighborRow& row, std::int32_t* S,
                  Real* D, Real* d) {
  if (!S && !D && !d) return;
  if constexpr (std::is_same_v<Real, double>) {
    MLCORE_DISPATCH(neighbor_fill)(cells.particles(), row, S, D, d);
  } else {
    MLCORE_DISPATCH(neighbor_fill_single)(cells.particles(), row, S, D, d);
  }
}

template <class T>
T* at(T* data, std::int64_t entry) {
  return data ? data + entry : nullptr;
}

/// The part of the arrays that a thread writes.
template <class Index, class Real>
class ArrayWriter {
 public:
  ArrayWriter(const NeighborArrays<Index, Real>& out, std::int64_t first, bool staged)
      : i_(at(out.i.data, first), staged),
        j_(at(out.j.data, first), staged),
        S_(at(out.S.data, 3 * first), staged),
        D_(at(out.D.data, 3 * first), staged),
        d_(at(out.d.data, first), staged) {}

  void write(const NeighborCells& cells, const kernels::NeighborRow& row, std::int64_t base) {
    const std::int64_t size = row.size;
    if (Index* i = i_.room(size)) std::fill_n(i, size, static_cast<Index>(base + row.i));
    if (Index* j = j_.room(size)) {
      std::transform(row.j, row.j + size, j, [base](std::int32_t number) {
        return static_cast<Index>(base) + static_cast<Index>(number);
      });
    }
    fill_vectors<Real>(cells, row, S_.room(3 * size), D_.room(3 * size), d_.room(size));
    i_.commit(size), j_.commit(size), d_.commit(size);
    S_.commit(3 * size), D_.commit(3 * size);
  }

 private:
  RowStream<Index> i_, j_;
  RowStream<std::int32_t> S_;
  RowStream<Real> D_, d_;
};

/// Puts rows where they belong. They are too short to be written past the caches.
template <class Index, class Real>
class ArrayVisitor : public NeighborVisitor {
 public:
  ArrayVisitor(const NeighborCells& cells, const std::int64_t* offsets, std::int64_t base,
               const NeighborArrays<Index, Real>& out)
      : cells_(cells), offsets_(offsets), base_(base), out_(out) {}

  void visit(const kernels::NeighborRow& row) override {
    const std::int64_t size = row.size, first = offsets_[row.i];
    if (size == 0) return;
    if (out_.i.data) std::fill_n(out_.i.data + first, size, static_cast<Index>(base_ + row.i));
    if (out_.j.data) {
      std::transform(row.j, row.j + size, out_.j.data + first, [this](std::int32_t number) {
        return static_cast<Index>(base_) + static_cast<Index>(number);
      });
    }
    fill_vectors<Real>(cells_, row, at(out_.S.data, 3 * first), at(out_.D.data, 3 * first),
                       at(out_.d.data, first));
  }

 private:
  const NeighborCells& cells_;
  const std::int64_t* offsets_;
  std::int64_t base_;
  NeighborArrays<Index, Real> out_;
};

void write_line(const NeighborCells& cells, const kernels::NeighborRow& row, std::int64_t base,
                const NeighborMatrix& out) {
  const std::int64_t width = out.j.shape[1], line = base + row.i;
  std::int32_t* const j = out.j.data + line * width;
  for (std::int64_t k = 0; k < row.size; ++k) j[k] = static_cast<std::int32_t>(base) + row.j[k];
  std::fill(j + row.size, j + width, out.padding);
  if (out.S.data) {
    std::int32_t* const S = out.S.data + 3 * line * width;
    fill_vectors<double>(cells, row, S, nullptr, nullptr);
    std::fill(S + 3 * row.size, S + 3 * width, 0);
  }
  if (out.counts.data) out.counts(line) = row.size;
}

class LineVisitor : public NeighborVisitor {
 public:
  LineVisitor(const NeighborCells& cells, std::int64_t base, const NeighborMatrix& out)
      : cells_(cells), base_(base), out_(out) {}
  void visit(const kernels::NeighborRow& row) override { write_line(cells_, row, base_, out_); }

 private:
  const NeighborCells& cells_;
  std::int64_t base_;
  const NeighborMatrix& out_;
};

/// Neighbors lie anywhere, too.
void prefetch_positions(const double* positions, const kernels::NeighborRow& row) {
  for (std::int64_t k = 0; k < row.size; ++k) {
    __builtin_prefetch(positions + 4 * std::int64_t{row.j[k]});
  }
}

template <class Visit>
void for_each_row(const NeighborRows& rows, std::int64_t begin, std::int64_t end,
                  const double* positions, const Visit& visit) {
  for (std::int64_t i = begin; i < end; ++i) {
    if (i + kRowsAhead < end) rows.prefetch(i + kRowsAhead);
    if (positions && i + kPositionsAhead < end) {
      prefetch_positions(positions, rows.row(i + kPositionsAhead));
    }
    visit(rows.row(i));
  }
}

template <class T, int Rank>
std::int64_t bytes(const View<T, Rank>& view) {
  return view.data ? view.size() * static_cast<std::int64_t>(sizeof(T)) : 0;
}

}  // namespace

template <class Index, class Real>
void write_rows(const Context& context, const NeighborCells& cells, const NeighborRows& rows,
                std::int64_t first, std::int64_t base, const NeighborArrays<Index, Real>& out) {
  const bool vectors = out.S.data || out.D.data || out.d.data;
  const std::int64_t size = bytes(out.i) + bytes(out.j) + bytes(out.S) + bytes(out.D);
  const bool staged = size + bytes(out.d) > kCached;
  parallel_for(context, rows.particles(), 64, [&](std::int64_t begin, std::int64_t end, int) {
    {
      ArrayWriter<Index, Real> writer(out, first + rows.offsets()[begin], staged);
      for_each_row(rows, begin, end, vectors ? cells.particles().position : nullptr,
                   [&](const kernels::NeighborRow& row) { writer.write(cells, row, base); });
    }
    if (staged) MLCORE_DISPATCH(neighbor_stream_end)();
  });
}

template void write_rows(const Context&, const NeighborCells&, const NeighborRows&, std::int64_t,
                         std::int64_t, const NeighborArrays<std::int32_t, double>&);
template void write_rows(const Context&, const NeighborCells&, const NeighborRows&, std::int64_t,
                         std::int64_t, const NeighborArrays<std::int64_t, double>&);
template void write_rows(const Context&, const NeighborCells&, const NeighborRows&, std::int64_t,
                         std::int64_t, const NeighborArrays<std::int32_t, float>&);
template void write_rows(const Context&, const NeighborCells&, const NeighborRows&, std::int64_t,
                         std::int64_t, const NeighborArrays<std::int64_t, float>&);

void write_matrix(const Context& context, const NeighborCells& cells, const NeighborRows& rows,
                  std::int64_t base, const NeighborMatrix& out) {
  parallel_for(context, rows.particles(), 64, [&](std::int64_t begin, std::int64_t end, int) {
    for_each_row(rows, begin, end, nullptr,
                 [&](const kernels::NeighborRow& row) { write_line(cells, row, base, out); });
  });
}

template <class Index, class Real>
void write_found(const Context& context, const NeighborScan& scan, const std::int64_t* offsets,
                 std::int64_t base, const NeighborArrays<Index, Real>& out) {
  const bool vectors = out.S.data || out.D.data || out.d.data;
  visit_pairs(context, scan, vectors, [&]() -> std::unique_ptr<NeighborVisitor> {
    return std::make_unique<ArrayVisitor<Index, Real>>(scan.cells, offsets, base, out);
  });
}

template void write_found(const Context&, const NeighborScan&, const std::int64_t*, std::int64_t,
                          const NeighborArrays<std::int32_t, double>&);
template void write_found(const Context&, const NeighborScan&, const std::int64_t*, std::int64_t,
                          const NeighborArrays<std::int64_t, double>&);
template void write_found(const Context&, const NeighborScan&, const std::int64_t*, std::int64_t,
                          const NeighborArrays<std::int32_t, float>&);
template void write_found(const Context&, const NeighborScan&, const std::int64_t*, std::int64_t,
                          const NeighborArrays<std::int64_t, float>&);

void write_found(const Context& context, const NeighborScan& scan, std::int64_t base,
                 const NeighborMatrix& out) {
  visit_pairs(context, scan, out.S.data != nullptr, [&]() -> std::unique_ptr<NeighborVisitor> {
    return std::make_unique<LineVisitor>(scan.cells, base, out);
  });
}

}  // namespace mlcore::detail

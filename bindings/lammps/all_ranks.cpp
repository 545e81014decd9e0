#include "all_ranks.h"

#include <mpi.h>

#include <climits>

#include "comm.h"
#include "error.h"

namespace mlmod {

void raise_together(LAMMPS_NS::LAMMPS* lmp, const std::string& who, const std::string& problem) {
  const int mine = problem.empty() ? INT_MAX : lmp->comm->me;
  int first = INT_MAX;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, lmp->world);
  if (first == INT_MAX) return;
  std::string text = who + ": " + problem;
  int length = static_cast<int>(text.size());
  MPI_Bcast(&length, 1, MPI_INT, first, lmp->world);
  text.resize(static_cast<std::size_t>(length));
  MPI_Bcast(text.data(), length, MPI_CHAR, first, lmp->world);
  lmp->error->all(FLERR, text);
}

}  // namespace mlmod
